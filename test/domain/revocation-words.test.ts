import { expect, it } from 'vitest';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import type { Json } from '#src/domain/json.ts';
import { sawWords, subjectWords } from '#src/domain/revocation-words.ts';
import { emergencies } from '#workflows/index.ts';

const SUBJECTS: readonly (readonly [RevocationSubject, string])[] = [
  [{ kind: 'key', path: 'eu/w/s1' }, 'the key at eu/w/s1'],
  [{ kind: 'key', keyId: 'k' }, 'the key k'],
  [{ kind: 'key', workload: 'w', epoch: 4 }, 'key 4 of w'],
  [{ kind: 'release', workload: 'w', serial: 12 }, 'release 12 of w'],
  [{ kind: 'workload', workload: 'w' }, 'all of w'],
  [{ kind: 'all' }, 'everything'],
  [{ kind: 'target', cluster: 'c', namespace: 'n', name: 'd' }, 'the object c/n/d'],
  [{ kind: 'device', chipId: 'a' }, 'the machine a'],
  [{ kind: 'device', ueid: 'a' }, 'the device a'],
  [{ kind: 'reference-value', name: 'svn', value: '2' }, 'the measurement svn = "2"'],
  [{ kind: 'reference-value', name: 'svn', value: [2, '2'] }, 'the measurement svn = [2,"2"]'],
  [{ kind: 'signer', person: 'bob' }, 'every key of bob'],
  [{ kind: 'signer', person: 'bob', key: 'sha256:1', since: '2026-11-20T00:00:00Z' }, 'the key sha256:1 of bob since 2026-11-20T00:00:00Z'],
];

it.each(SUBJECTS)('%j is named', (subject, words) => {
  expect(subjectWords(subject)).toBe(words);
});

const SAW: readonly (readonly [string, Json, readonly string[]])[] = [
  [
    'refuse-at-proxies',
    {
      brokers: {
        a: {
          entry: 4,
          acknowledged: [
            { proxy: 'p1', acknowledged: 4 },
            { proxy: 'p2', acknowledged: 9 },
          ],
        },
        b: { entry: 5, acknowledged: [] },
      },
    },
    ['a: entry 4, acknowledged by p1, p2', 'b: entry 5, acknowledged by no proxy, since none is heard from'],
  ],
  ['publish-policy', { brokers: { a: { generation: 7, replicas: 2 } } }, ['a: generation 7 at 2 replicas']],
  ['publish-reference-values', { brokers: { a: { generation: 7 } } }, ['a: generation 7']],
  ['delete-resources', { deletions: [{ put: 'never' }, { deletedAt: 'x' }] }, ['1 path emptied, 1 never held anything']],
  ['touch-objects', { objects: { 'c/n/d': { uid: 'u' }, 'c/n/e': 'not there' } }, ['c/n/d was written to', 'c/n/e is not there']],
  ['confirm-refused', { refusals: [{ guests: 2 }, { guests: 0 }, { asked: 'nothing was ever put there' }] }, ['1 of 3 paths asked for as an attested guest']],
  ['find-holders', { holders: { 'c/n/d': ['u', 'v'], 'c/n/e': ['w'] } }, ['c/n/d: 2 pods', 'c/n/e: 1 pod']],
  ['evict-pods', { evict: false }, ['the document asks for no eviction']],
  ['evict-pods', { evict: true, objects: { 'c/n/d': 'no pod that holds it' } }, ['c/n/d: none is left']],
  [
    'disable-keys',
    { keys: [{ keyId: 'k', refusedSince: 'then' }, { keyId: 'l', sharedWith: 'w/2 v1' }, { key: 'none was used' }] },
    ['key k refused since then', 'key l stays: others need it', 'no key was ever used'],
  ],
  ['enable-keys', { keys: [{ keyId: 'k', enabledAt: 'then' }] }, ['key k decrypts again']],
  ['lift-revocation', { freed: [{ revision: 'w/1 v1' }], stayRevoked: ['w/2 v1'] }, ['w/1 v1 may run again', 'w/2 v1 stays revoked by another']],
  ['lift-revocation', { freed: [], stayRevoked: [] }, []],
];

it.each(SAW)('a receipt of %s says what it saw: %j', (step, evidence, words) => {
  expect(sawWords(step, evidence)).toEqual(words);
});

it('evidence of another version, or of nobody, is no mistake of the page', () => {
  const names = [...emergencies.flatMap(({ steps }) => steps.map(({ name }) => name)), 'a-later-step'];
  for (const evidence of [null, 'x', 7, [], {}, { brokers: 'x', keys: [null], refusals: 7, holders: { a: 7 }, deletions: [[]], objects: null, freed: [null] }])
    for (const name of names) expect(sawWords(name, evidence).every((line) => typeof line === 'string')).toBe(true);
});

it('of a hundred proxies a dozen are named', () => {
  const acknowledged = Array.from({ length: 100 }, (_, index) => ({ proxy: `p${index}` }));
  expect(sawWords('refuse-at-proxies', { brokers: { a: { entry: 1, acknowledged } } })[0]).toMatch(/p11 and 88 more$/);
});
