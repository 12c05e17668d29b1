import { type Gate, yes } from '#workflows/step.ts';
import { disableKey } from '#workflows/steps/disable-key.ts';
import { done } from '../world/hazards.ts';
import type { Copy } from './copy.ts';
import { annotated, seeing, seeingRevoked, ungated, withBroker, withCluster, withSends, withStep } from './edits.ts';

/** The newest revision's grants, put over the text that is installed, less what is not wanted any more: what another's write brings meanwhile is lost. */
export const patched: NonNullable<Copy['world']> = (world, test) =>
  withBroker((broker) => ({
    publishPolicy: async (read) => {
      const { policy } = test.kbs;
      const before = typeof policy === 'string' ? [] : policy.grants;
      await broker.publishPolicy(async () => {
        const permit = await read();
        if (permit === null) return null;
        const newest = permit.value.grants.filter((grant) => grant.paths.some((path) => path.includes(`/s${Math.max(...serialsOf(permit.value.grants))}-`)));
        return {
          ...permit,
          value: {
            ...permit.value,
            grants: [...before.filter((grant) => !newest.some((one) => same(one, grant)) && permit.value.grants.some((one) => same(one, grant))), ...newest],
          },
        };
      });
    },
  }))(world);

function same(one: { readonly paths: readonly string[] }, other: { readonly paths: readonly string[] }): boolean {
  return one.paths.join() === other.paths.join();
}

function serialsOf(grants: readonly { readonly paths: readonly string[] }[]): readonly number[] {
  return grants.flatMap(({ paths }) => paths.map((path) => Number(/\/s(\d+)-/.exec(path)?.[1])));
}

/** One path for all revisions, whatever they call theirs. */
export const onePath: NonNullable<Copy['prepare']> = ({ kbs }) => {
  const bytes = kbs.resources;
  const inner = { set: bytes.set.bind(bytes), get: bytes.get.bind(bytes), has: bytes.has.bind(bytes), delete: bytes.delete.bind(bytes) };
  const shared = (path: string) => path.replace(/\/s\d+-.*$/, '/key') as Parameters<typeof bytes.get>[0];
  Object.assign(bytes, {
    set: (path: string, value: Buffer) => inner.set(shared(path), value),
    get: (path: string) => inner.get(shared(path)),
    has: (path: string) => inner.has(shared(path)),
    delete: (path: string) => inner.delete(shared(path)),
  });
};

/** Other bytes every time that a path is written. */
export const redrawn: NonNullable<Copy['world']> = (world) => {
  const written = new Set<string>();
  return withBroker((broker) => ({
    putResource: (read, unwrap) =>
      broker.putResource(read, async (wrapped) => {
        if (!written.has(wrapped.path)) {
          written.add(wrapped.path);
          return unwrap(wrapped);
        }
        return world.weights.newKey('tink-aes256-gcm-hkdf-1mb');
      }),
  }))(world);
};

/** A patch that lands whatever was written since. */
export const blindPatch: NonNullable<Copy['world']> = (world, { cluster, network }) =>
  withCluster((inner) => ({
    patch: async (target, change, mine) => {
      if (!(await mine())) return;
      const escaped = (base: string, values: Readonly<Record<string, string>>) =>
        Object.entries(values).map(([key, value]) => [`${base}/${key.replaceAll('/', '~1')}`, value]);
      const fields = {
        ...change.fields,
        ...Object.fromEntries([
          ...escaped('/spec/template/metadata/annotations', change.templateAnnotations),
          ...escaped('/metadata/annotations', change.annotations),
        ]),
      };
      const effect = () => {
        cluster.edit(target.name, fields);
        return done();
      };
      await network.send({ system: inner.name, verb: 'patch', what: target.name, effect, answered: async () => {}, landsUntil: () => null });
    },
  }))(world);

/** A ledger in which every write has its answer. */
export const allAnswered = withStep('delete-resource', (step) =>
  seeing(step, (look) => withSends(look, (sends) => sends.map((sent) => ({ ...sent, answeredAt: sent.answeredAt ?? sent.at })))),
);

/** A reinstatement that takes every write to a key store for answered. */
export const enablesAtOnce = seeingRevoked('enable-keys', (look) => ({
  ledger: {
    ...look.ledger,
    keySends: async (...asked) =>
      (await look.ledger.keySends(...asked)).map((sent) => ({ ...sent, answer: sent.answer ?? { status: 200, type: null, detail: {} } })),
  },
}));

/** A revocation that takes every object for touched. */
export const touchesNothing = seeingRevoked('touch-objects', (look) => annotated(look, 'keyturn.dev/revoked-at', look.subject.at));

/** Disables the key of a sealing that was taken before anything else is asked. */
export const disablesAtOnce: Gate = {
  name: 'disables-at-once',
  ask: async (look) => {
    if (look.subject.sealing.taken) await disableKey.act(look);
    return yes(null);
  },
};

/** What is built otherwise in `retire-revision`: no look at whether the target serves, nor at who still runs the old one. */
export const unlooked: NonNullable<Copy['workflows']> = (workflows) =>
  withStep('retire', (step) =>
    step.kind === 'decision'
      ? { ...ungated(step), decide: async () => ({ kind: 'seen', facts: {}, evidence: null, proof: 'observed', goodUntil: null }) }
      : step,
  )(
    withStep('close', (step) =>
      step.kind === 'decision'
        ? { ...ungated(step), decide: async () => ({ kind: 'seen', facts: {}, evidence: null, proof: 'observed', goodUntil: null }) }
        : step,
    )(workflows),
  );
