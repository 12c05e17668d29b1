/** The eviction subresource of a pod, in the words of a kube-apiserver v1.36. The lab has no disruption budgets: none is violated. */
import { at, isMap, type Json, listAt, textAt } from './kubernetes-json.ts';
import { badRequest } from './kubernetes-status.ts';
import type { Outcome, Place, Verbs } from './kubernetes-verbs.ts';

/** Deletes the pod as its own grace period says, where it is the one that is meant. Throws a refusal: 404 where it is not there, 409 where its uid is another's. */
export function evict(verbs: Verbs, place: Place, body: Json, dryRun: boolean): Outcome {
  if (!isMap(body) || textAt(body, 'kind') !== 'Eviction') throw badRequest('the object provided is unrecognized (must be of type Eviction)');
  const [name, namespace] = [textAt(body, 'metadata', 'name'), textAt(body, 'metadata', 'namespace')];
  if (namespace !== '' && namespace !== place.namespace)
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  if (name !== '' && name !== place.name) throw badRequest('name in URL does not match name in Eviction object');
  const options = at(body, 'deleteOptions') ?? {};
  verbs.remove(place, options, null, dryRun || listAt(options, 'dryRun').includes('All'));
  return { code: 201, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 }, warnings: [] };
}
