import { readFileSync } from 'node:fs';
import { Agent, request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LabKubernetes, openLabKubernetes } from '#src/lab/kubernetes.ts';

interface Step {
  readonly index: number;
  readonly request: {
    readonly method: 'GET';
    readonly path: string;
    readonly query: Readonly<Record<string, string | number>>;
    readonly type: string;
    readonly body: unknown;
  };
  readonly status: number;
  readonly body: unknown;
  readonly frames?: readonly { readonly type: string; readonly name: string; readonly resourceVersion: string }[];
}
interface Recording {
  readonly name: string;
  readonly setup: readonly object[];
  readonly steps: readonly Step[];
}

const { recordings } = JSON.parse(readFileSync(new URL('../vectors/kubernetes/recordings.json', import.meta.url), 'utf8')) as {
  recordings: readonly Recording[];
};

/** What is drawn anew each time, or is the machine's clock. */
const VOLATILE = new Set(['uid', 'creationTimestamp', 'time']);

/** Recorded versions, uids and continue tokens, and what they are here. */
type Names = Map<string, string>;

/** What `actual` says where `recorded` says something; learns versions and uids on the way. */
function seen(recorded: unknown, actual: unknown, names: Names, key = ''): unknown {
  if (Array.isArray(recorded))
    return Array.isArray(actual) && actual.length === recorded.length ? recorded.map((item, index) => seen(item, actual[index], names)) : actual;
  if (typeof recorded === 'object' && recorded !== null && typeof actual === 'object' && actual !== null) {
    return Object.fromEntries(Object.entries(recorded).map(([name, value]) => [name, seen(value, (actual as Record<string, unknown>)[name], names, name)]));
  }
  if (typeof recorded !== 'string' || typeof actual !== 'string') return actual;
  if (['resourceVersion', 'uid', 'continue'].includes(key) && !names.has(recorded)) names.set(recorded, actual);
  if (VOLATILE.has(key)) return recorded;
  return key === 'resourceVersion' || key === 'continue'
    ? names.get(recorded) === actual
      ? recorded
      : actual
    : actual.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UID');
}

/** With uids in texts made equal. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (key, inner) =>
    typeof inner === 'string' && !VOLATILE.has(key) ? inner.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'UID') : inner,
  );
}

/** What was recorded, in this lab's versions and uids. */
function translated<T>(value: T, names: Names): T {
  return JSON.parse(JSON.stringify(value ?? null), (key, inner) => {
    if (typeof inner !== 'string') return inner;
    return ['resourceVersion', 'uid', 'continue', 'value'].includes(key) ? (names.get(inner) ?? inner) : inner;
  }) as T;
}

describe('the lab API server answers as a real one was recorded to', () => {
  let lab: LabKubernetes;
  let agent: Agent;
  beforeAll(async () => {
    // A clock that stands still: whoever wrote first in the same second is told by name.
    lab = await openLabKubernetes({ controllers: false, clock: async () => Date.parse('2026-11-23T09:48:34Z') });
    agent = new Agent({ connect: { ca: lab.certificateAuthorityPem } });
  });
  afterAll(async () => {
    await agent.destroy();
    await lab.close();
  });

  const send = async (step: Step['request'], names: Names) => {
    const query = new URLSearchParams(Object.entries(translated(step.query, names)).map(([name, value]) => [name, String(value)]));
    const body =
      step.body === null || step.body === undefined ? null : typeof step.body === 'string' ? step.body : JSON.stringify(translated(step.body, names));
    const headers = { authorization: `Bearer ${lab.token}`, ...(step.type === '' ? {} : { 'content-type': step.type }) };
    return request(`${lab.url}${step.path}?${query}`, { method: step.method, headers, body, dispatcher: agent });
  };

  it('what is no Eviction evicts nothing: here we were not recorded, and must not be more lenient', async () => {
    const path = '/api/v1/namespaces/default/pods/p';
    const containers = [{ name: 'c', image: 'i' }];
    const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec: { containers } };
    const asked = async (method: string, to: string, body: unknown): Promise<number> => {
      const answer = await send({ method: method as 'GET', path: to, query: {}, type: 'application/json', body }, new Map());
      await answer.body.dump();
      return answer.statusCode;
    };
    await asked('POST', '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } });
    await asked('POST', '/api/v1/namespaces/default/serviceaccounts', { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' } });
    expect(await asked('POST', '/api/v1/namespaces/default/pods', pod)).toBe(201);
    expect(await asked('POST', `${path}/eviction`, { ...pod, kind: 'Pod' })).toBe(400);
    expect(await asked('POST', `${path}/eviction`, [])).toBe(400);
    expect(await asked('GET', path, null)).toBe(200);
  });

  it.each(recordings)('$name', async ({ setup, steps }) => {
    const names: Names = new Map();
    const watches: { readonly step: Step; readonly body: AsyncIterable<Uint8Array> }[] = [];
    for (const object of setup) {
      const { kind, metadata } = object as { kind: string; metadata: { namespace?: string } };
      const path = kind === 'Namespace' ? '/api/v1/namespaces' : `/api/v1/namespaces/${metadata.namespace}/${kind.toLowerCase()}s`;
      const made = await send({ method: 'POST' as 'GET', path, query: {}, type: 'application/json', body: object }, names);
      expect(made.statusCode).toBe(201);
      await made.body.dump();
    }
    for (const step of steps) {
      const answer = await send(step.request, names);
      if (step.frames !== undefined) {
        watches.push({ step, body: answer.body });
        continue;
      }
      const actual = await answer.body.json();
      expect({ index: step.index, status: answer.statusCode, body: seen(plain(step.body), actual, names) }).toEqual({
        index: step.index,
        status: step.status,
        body: plain(step.body),
      });
    }
    for (const { step, body } of watches) {
      const frames: unknown[] = [];
      const learn = ({ resourceVersion }: { readonly resourceVersion: string }): void => {
        const recorded = step.frames?.[frames.length]?.resourceVersion ?? '';
        // Nothing but the watch shows the version that a deletion makes.
        if (!names.has(recorded)) names.set(recorded, resourceVersion);
      };
      for await (const chunk of body) {
        for (const line of Buffer.from(chunk).toString().split('\n').filter(Boolean)) {
          const { type, object } = JSON.parse(line) as { type: string; object: { metadata: { name: string; resourceVersion: string } } };
          learn(object.metadata);
          frames.push({ type, name: object.metadata.name, resourceVersion: object.metadata.resourceVersion });
        }
        if (frames.length >= (step.frames?.length ?? 0)) break;
      }
      expect({ index: step.index, frames }).toEqual({
        index: step.index,
        frames: step.frames?.map((frame) => ({ ...frame, resourceVersion: names.get(frame.resourceVersion) ?? 'unknown' })),
      });
    }
  });
});
