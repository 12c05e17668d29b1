import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { type DraftOrder, draftRelease } from '#src/domain/documents/draft.ts';
import { type Edit, editYaml } from '#src/domain/documents/edit.ts';
import { releaseTemplate } from '#src/domain/documents/template.ts';
import type { Json } from '#src/domain/json.ts';

const EXAMPLE = readFileSync(resolve(import.meta.dirname, '../vectors/examples/release.yaml'), 'utf8');

describe('changing a value in a text', () => {
  it.each<[string, string, Edit, string]>([
    ['keeps a remark in its column', 'a: 1      # why\n', { path: ['a'], value: 1234 }, 'a: 1234   # why\n'],
    ['keeps a remark where there is no room', 'a: 1 # why\n', { path: ['a'], value: 'longer' }, 'a: longer # why\n'],
    ['keeps the quotes that were there', `a: "x"\nb: 'y'\n`, { path: ['b'], value: "it's" }, `a: "x"\nb: 'it''s'\n`],
    ['quotes a text that would be read as another type', 'a: x\n', { path: ['a'], value: '12' }, 'a: "12"\n'],
    ['gives a key without a value one', 'a:\nb: 1\n', { path: ['a'], value: 2 }, 'a: 2\nb: 1\n'],
    ['replaces a block text', 'a: |\n  x\n  y\nb: 1\n', { path: ['a'], value: 'z' }, 'a: z\nb: 1\n'],
    ['changes a member on one line', 'a: { b: 1, c: 2 } # why\n', { path: ['a', 'b'], value: 3 }, 'a: { b: 3, c: 2 } # why\n'],
    ['adds a member on one line', 'a: { b: 1 } # why\n', { path: ['a', 'c'], value: 'd' }, 'a: { b: 1, c: d } # why\n'],
    ['adds the first member', 'a: {}\n', { path: ['a', 'c'], value: ['1'] }, 'a: { c: ["1"] }\n'],
    [
      'adds a member of a block behind the last one’s remark',
      'a:\n  b: 1 # why\n     # more\nc: 2\n',
      { path: ['a', 'd'], value: 3 },
      'a:\n  b: 1 # why\n     # more\n  d: 3\nc: 2\n',
    ],
    [
      'replaces a list of lines, and keeps the last one’s remark',
      'a:\n  - "1" # one\n  - "2" # two\nb: 1\n',
      { path: ['a'], value: ['3'] },
      'a:\n  - "3" # two\nb: 1\n',
    ],
    ['changes an element of a list', 'a:\n  - b: 1 # why\n  - b: 2\n', { path: ['a', '1', 'b'], value: 3 }, 'a:\n  - b: 1 # why\n  - b: 3\n'],
  ])('%s', (_, text, edit, expected) => {
    expect(editYaml(text, [edit])).toBe(expected);
  });

  it('changes nothing where the place is not there', () => {
    expect(editYaml('a: 1\n', [{ path: ['b', 'c'], value: 1 }])).toBeNull();
    expect(editYaml('a: [1]\n', [{ path: ['a', '1'], value: 1 }])).toBeNull();
  });

  it('sets what it was asked to set, however the text is written, or nothing', () => {
    const text = fc.stringMatching(/^[a-z][a-z0-9 :#'"/@-]{0,12}$/);
    const scalar = fc.oneof(text, fc.integer(), fc.boolean(), fc.constant(null));
    const value = fc.oneof(scalar, fc.array(scalar, { maxLength: 3 }));
    const inner = fc.dictionary(fc.stringMatching(/^[a-z]{1,4}$/), value, { minKeys: 1, maxKeys: 4 });
    fc.assert(
      fc.property(
        fc.dictionary(fc.stringMatching(/^[a-z]{1,4}$/), fc.oneof(value, inner), { minKeys: 1 }),
        fc.boolean(),
        value,
        fc.nat(),
        (before, flow, next, pick) => {
          const keys = Object.keys(before);
          const key = keys[pick % keys.length] ?? '';
          const written = stringify(before, { collectionStyle: flow ? 'flow' : 'any', lineWidth: 0 });
          const edited = editYaml(written, [{ path: [key], value: next as Json }]);
          expect(edited === null ? null : parse(edited)).toEqual(edited === null ? null : { ...before, [key]: next });
          // A block text inside a list of lines is the one shape that is refused.
          if (!written.includes('|') && !written.includes('>')) expect(edited).not.toBeNull();
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a draft', () => {
  const ORDER: DraftOrder = {
    ...{ path: 'releases/w-7f3a/13.yaml', serial: 13, previous: `sha256:${'a'.repeat(64)}`, expires: '2027-01-31T00:00:00Z', artifact: null },
    ...{ images: {}, initData: {}, referenceValues: [], settings: [] },
  };

  it('differs from the text that it is made from in what it was told, and in no other line', () => {
    const draft = draftRelease(EXAMPLE, ORDER);
    if (draft.kind !== 'drafted') throw new Error(JSON.stringify(draft));
    const lines = EXAMPLE.split('\n').map((line, index) => [line, draft.text.split('\n')[index]]);
    expect(lines.filter(([before, after]) => before !== after).map(([before]) => before?.split(':')[0])).toEqual(['serial', 'previous', 'expires']);
    expect(draft.differences.map(({ field }) => field)).toEqual(['serial', 'previous', 'expires']);
    expect(draft.text.split('\n').length).toBe(EXAMPLE.split('\n').length);
  });

  it('says weights’ manifest of a kept ciphertext only where it is the same weights', () => {
    const manifest = `sha256:${'3'.repeat(64)}`;
    const kept = [null, 12, 7].map((from) => draftRelease(EXAMPLE, { ...ORDER, artifact: { kind: 'keep', from } }));
    expect(kept.map((draft) => (draft.kind === 'drafted' ? draft.document.artifact : draft))).toMatchObject([
      { source: 'keep', from: null, address: null, plaintextManifest: manifest },
      { source: 'keep', from: 12, plaintextManifest: manifest },
      { source: 'keep', from: 7, plaintextManifest: null },
    ]);
  });

  it('keeps the types of what stands there', () => {
    const draft = draftRelease(EXAMPLE, {
      ...ORDER,
      referenceValues: [
        { guest: 'h200-snp', name: 'snp_launch_measurement', values: ['66', '77'] },
        { guest: 'h200-snp', name: 'snp_tee_svn', values: ['1', '"2"'] },
      ],
      settings: [
        { field: 'key.rotateAfterDays', text: 'null' },
        { field: 'targets.0.minimumAttested', text: '5' },
        { field: 'artifact.format', text: '7' },
      ],
    });
    if (draft.kind !== 'drafted') throw new Error(JSON.stringify(draft));
    const { guests, key, targets, artifact } = draft.document;
    expect(guests['h200-snp']?.referenceValues).toEqual({ snp_launch_measurement: ['66', '77'], snp_tee_svn: [1, '2'] });
    expect([key.rotateAfterDays, targets[0]?.minimumAttested, artifact.format]).toEqual([null, 5, '7']);
  });

  it.each<[string, Partial<DraftOrder>, string]>([
    ['a guest that there is not', { initData: { other: { file: 'g.toml', digest: `sha256:${'1'.repeat(64)}` } } }, 'InvalidRequest'],
    ['a field that there is not', { settings: [{ field: 'rollout.window.batch', text: '1' }] }, 'InvalidRequest'],
    ['a field that is computed', { settings: [{ field: 'serial', text: '99' }] }, 'InvalidRequest'],
    ['a field that nobody knows', { settings: [{ field: 'rollout.speed', text: '1' }] }, 'UnknownField'],
    ['a value that does not fit', { settings: [{ field: 'rollout.batch', text: 'many' }] }, 'Malformed'],
    ['what breaks a rule between fields', { artifact: { kind: 'keep', from: 13 } }, 'Malformed'],
    ['a place that is not its own', { path: 'releases/w-7f3a/14.yaml' }, 'WrongPlace'],
  ])('is refused for %s', (_, change, reason) => {
    expect(draftRelease(EXAMPLE, { ...ORDER, ...change })).toMatchObject({ kind: 'bad', reason });
  });

  it('of a template is incomplete until everything is filled in, and then good', () => {
    const template = releaseTemplate({ workload: 'chat', images: ['chat'], guests: ['cvm'] });
    const digest = `sha256:${'1'.repeat(64)}` as const;
    const order: DraftOrder = {
      ...{ path: 'releases/chat/1.yaml', serial: 1, previous: null, expires: '2027-01-31T00:00:00Z', artifact: null },
      ...{ images: {}, initData: {}, referenceValues: [], settings: [] },
    };
    const empty = draftRelease(template, order);
    expect(empty.kind === 'incomplete' ? empty.fillIn : []).toEqual(
      expect.arrayContaining([
        'artifact.address',
        'artifact.plaintextManifest',
        'images.chat',
        'guests.cvm.tee',
        'guests.cvm.referenceValues',
        'key.store',
        'targets.0.kbs',
      ]),
    );
    const setting = (field: string, text: string) => ({ field, text });
    const full = draftRelease(template, {
      ...order,
      artifact: { kind: 'plaintext', address: 'file:///models/chat', manifest: digest },
      images: { chat: `registry.example/chat@${digest}` },
      initData: { cvm: { file: 'guests/chat/1-cvm.toml', digest } },
      referenceValues: [{ guest: 'cvm', name: 'snp_launch_measurement', values: ['ab'] }],
      settings: [
        ...[setting('artifact.stores.0', 'models'), setting('guests.cvm.tee', 'snp'), setting('guests.cvm.runtimeClass', 'kata-qemu-snp')],
        ...[setting('targets.0.cluster', 'east'), setting('targets.0.namespace', 'inference'), setting('targets.0.kbs', 'main')],
        ...[setting('targets.0.store', 'models'), setting('key.store', 'kms')],
      ],
    });
    expect(full.kind === 'drafted' ? full.document.targets[0]?.guest : full).toBe('cvm');
  });
});
