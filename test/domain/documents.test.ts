import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { jsonSchemas } from '#src/domain/documents/json-schemas.ts';
import { namedBy, parseDocument, schemas } from '#src/domain/documents/parse.ts';
import { bundlePath, type DocumentKind, documentOfBundle, placeOf } from '#src/domain/documents/places.ts';

const EXAMPLES: readonly (readonly [DocumentKind, string])[] = [
  ['Release', 'releases/w-7f3a/12.yaml'],
  ['Platform', 'platforms/hgx-h200-milan/4.yaml'],
  ['Baseline', 'baseline/main/1.yaml'],
  ['Trust', 'trust/1.yaml'],
  ['Revocation', 'revocations/2026-11-23-leaked-key.yaml'],
  ['Withdrawal', 'withdrawals/2026-11-23-answers-worse.yaml'],
  ['Reinstatement', 'reinstatements/2026-11-24-false-alarm.yaml'],
];

function example(kind: DocumentKind): Buffer {
  return readFileSync(join(import.meta.dirname, '../vectors/examples', `${kind.toLowerCase()}.yaml`));
}

/** The example release, changed at one place. */
function release(change: (document: Release) => void): Buffer {
  const document = parse(example('Release').toString()) as Release;
  change(document);
  return Buffer.from(stringify(document, { aliasDuplicateObjects: false }));
}
type Release = Record<string, unknown> & {
  artifact: Record<string, unknown>;
  guests: Record<string, Record<string, unknown>>;
  targets: Record<string, unknown>[];
  rollout: Record<string, unknown> & { attestation: Record<string, unknown> };
};

function verdict(bytes: Buffer | string, path = 'releases/w-7f3a/12.yaml'): string {
  const parsed = parseDocument(path, Buffer.from(bytes));
  return parsed.kind === 'parsed' ? 'parsed' : parsed.reason;
}

describe('the examples', () => {
  it.each(EXAMPLES)('%s passes its schema', (kind) => {
    const read = schemas[kind].safeParse(parse(example(kind).toString()));
    expect(read.error?.issues ?? []).toEqual([]);
  });

  it.each(EXAMPLES)('%s is taken', (kind, path) => {
    expect(verdict(example(kind), path)).toBe('parsed');
  });

  it('every kind of revocation that the example names is parsed', () => {
    const subjects = [
      '{ kind: key, keyId: k }',
      '{ kind: key, workload: w-7f3a, epoch: 4 }',
      '{ kind: release, workload: w-7f3a, serial: 12 }',
      '{ kind: workload, workload: w-7f3a }',
      '{ kind: all }',
      '{ kind: target, cluster: gpu-east, namespace: inference, name: chat }',
      '{ kind: device, chipId: a }',
      '{ kind: device, ueid: a }',
      '{ kind: reference-value, name: snp_launch_measurement, value: "5555" }',
      '{ kind: reference-value, name: tcb, value: [7, "8"] }',
      `{ kind: signer, person: second-person, key: sha256:${'1'.repeat(64)}, since: 2026-11-20T00:00:00Z }`,
      '{ kind: signer, person: second-person }',
    ];
    const path = 'revocations/2026-11-23-leaked-key.yaml';
    const text = example('Revocation').toString();
    for (const subject of subjects) expect([subject, verdict(text.replace(/^subject: .*$/m, `subject: ${subject}`), path)]).toEqual([subject, 'parsed']);
    expect(verdict(text.replace(/^subject: .*$/m, 'subject: { kind: release, workload: w, serial: 1, epoch: 2 }'), path)).toBe('UnknownField');
  });

  it('JSON Schemas refuse unknown fields and name every required one', () => {
    const { Release } = jsonSchemas();
    expect(Release).toMatchObject({ type: 'object', additionalProperties: false });
    const required = (Release as { required: string[] }).required;
    expect(required.sort()).toEqual(Object.keys(parse(example('Release').toString()) as object).sort());
    expect(Object.keys(jsonSchemas()).sort()).toEqual(EXAMPLES.map(([kind]) => kind).sort());
  });

  it('names the files that a release covers by digest', () => {
    expect(namedBy({ path: 'releases/w-7f3a/12.yaml', bytes: example('Release') })).toEqual([
      { file: 'guests/w-7f3a/12-h200-snp.toml', digest: `sha256:${'8'.repeat(64)}` },
    ]);
  });
});

describe('strict YAML', () => {
  const trust = 'trust/1.yaml';
  it.each([
    ['an anchor', 'a: &x 1'],
    ['an alias', 'a: &x 1\nb: *x'],
    ['an undefined alias', 'a: *x'],
    ['a tag', 'a: !!str x'],
    ['a local tag', 'a: !x y'],
    ['a duplicate key', 'a: 1\na: 1'],
    ['a duplicate key further in', 'a: { b: 1, "b": 2 }'],
    ['a directive', '%YAML 1.1\n---\na: yes'],
    ['a second document', 'a: 1\n---\nb: 2'],
    ['a key that is no text', '? [a]\n: b'],
    ['a hexadecimal number', 'a: 0x10'],
    ['infinity', 'a: .inf'],
    ['a number that 53 bits cannot hold', 'a: 9007199254740993'],
    ['__proto__', '__proto__: { a: 1 }'],
    ['text that turns direction', 'a: "\u202e"'],
    ['a zero-width space', 'a: "x\u200by"'],
    ['a NUL', 'a: "\u0000"'],
    ['bytes that are no UTF-8', Buffer.from([0x61, 0x3a, 0x20, 0xff])],
    ['a byte order mark', '\ufeffa: 1'],
    ['no document', ''],
    ['text', 'hello'],
    ['a broken document', 'a: [1'],
  ])('refuses %s', (_name, text) => {
    expect(verdict(text, trust)).toBe('Malformed');
  });

  it('reads a merge key as the unknown field that it is', () => {
    expect(verdict('<<: { a: 1 }', trust)).toBe('UnknownField');
  });

  it.each([
    ['bytes', `a: ${'x'.repeat(256 * 1024)}`],
    ['levels', `${'[ '.repeat(40)}1${' ]'.repeat(40)}`],
    ['levels, however many', '['.repeat(200_000)],
    ['block levels', '- '.repeat(30)],
    ['values', '- 1\n'.repeat(30_000)],
  ])('refuses too many %s', (_name, text) => {
    expect(verdict(text, trust)).toBe('LimitExceeded');
  });

  it('answers hostile texts within seconds', () => {
    const texts = ['"'.repeat(200_000), '&a '.repeat(80_000), Array.from({ length: 24_000 }, (_, index) => `k${index}: 1`).join('\n'), '- '.repeat(100_000)];
    // Of this process, so that what else runs on the machine does not count.
    const before = process.cpuUsage();
    for (const text of texts) expect(verdict(text, trust)).not.toBe('parsed');
    const { user } = process.cpuUsage(before);
    expect(user / 1e6).toBeLessThan(15);
  });
});

describe('a document and its place', () => {
  it('serials and ids are those of the path', () => {
    expect(verdict(example('Release'), 'releases/w-7f3a/13.yaml')).toBe('WrongPlace');
    expect(verdict(example('Release'), 'releases/other/12.yaml')).toBe('WrongPlace');
    expect(verdict(example('Revocation'), 'revocations/other.yaml')).toBe('WrongPlace');
  });

  it.each([
    'releases/w/012.yaml',
    'releases/w/1.yml',
    'releases/W/1.yaml',
    'releases/w/x/1.yaml',
    'trust/one.yaml',
    'releases/w/../1.yaml',
    'x/releases/w/1.yaml',
    'releases/w/1.yaml\n',
  ])('no document lives at %s', (path) => {
    expect(placeOf(path)).toBeNull();
  });

  it('a bundle belongs to the document that its name says', () => {
    expect(documentOfBundle('releases/w/1.ann-b.sigstore.json')).toBe('releases/w/1.yaml');
    expect(documentOfBundle('revocations/x.ann.sigstore.json')).toBe('revocations/x.yaml');
    expect(documentOfBundle('releases/w/1.sigstore.json')).toBeNull();
    expect(documentOfBundle('guests/w/1.ann.sigstore.json')).toBeNull();
    expect(documentOfBundle(bundlePath('platforms/p/4.yaml', 'ann'))).toBe('platforms/p/4.yaml');
  });
});

describe('mistakes are named by their field', () => {
  it.each<[string, (document: Release) => void, string, string]>([
    ['an unknown field', (one) => Object.assign(one, { windows: [] }), 'UnknownField', 'windows'],
    ['an unknown field further in', (one) => Object.assign(one.rollout, { canary: 1 }), 'UnknownField', 'rollout.canary'],
    ['a missing field', (one) => delete one.rollout.batch, 'Malformed', 'rollout.batch'],
    ['a guest that is not there', (one) => Object.assign(one.targets[0] ?? {}, { guest: 'constructor' }), 'Malformed', 'targets.0.guest'],
    ['a store that is not there', (one) => Object.assign(one.targets[0] ?? {}, { store: 'other' }), 'Malformed', 'targets.0.store'],
    [
      'an index',
      (one) => Object.assign(one.targets[0] ?? {}, { set: { '/spec/containers/0/image': 'x' } }),
      'Malformed',
      'targets.0.set./spec/containers/0/image',
    ],
    [
      'a placeholder that nobody fills',
      (one) => Object.assign(one.targets[0] ?? {}, { set: { '/a': `${'$'}{images.none}` } }),
      'Malformed',
      'targets.0.set./a',
    ],
    ['a placeholder that does not end', (one) => Object.assign(one.targets[0] ?? {}, { set: { '/a': `${'$'}{initData` } }), 'Malformed', 'targets.0.set./a'],
    ['the same object twice', (one) => one.targets.push({ ...one.targets[0] }), 'Malformed', 'targets.1'],
    ['plaintext without a manifest', (one) => Object.assign(one.artifact, { plaintextManifest: null }), 'Malformed', 'artifact.plaintextManifest'],
    ['plaintext from a serial', (one) => Object.assign(one.artifact, { from: 3 }), 'Malformed', 'artifact.from'],
    ['an image by tag', (one) => Object.assign(one, { images: { chat: 'registry.example/chat:1' } }), 'Malformed', 'images.chat'],
    ['provided', (one) => Object.assign(one.artifact, { source: 'provided' }), 'NotSupportedYet', 'artifact.source'],
    ['propose', (one) => Object.assign(one.rollout, { mode: 'propose' }), 'NotSupportedYet', 'rollout.mode'],
    ['check-in', (one) => Object.assign(one.rollout.attestation, { source: 'check-in' }), 'NotSupportedYet', 'rollout.attestation.source'],
    ['counted', (one) => Object.assign(one.rollout.attestation, { source: 'counted' }), 'NotSupportedYet', 'rollout.attestation.source'],
    [
      'another version of a Deployment',
      (one) => Object.assign(one.targets[0] ?? {}, { apiVersion: 'apps/v1beta1' }),
      'NotSupportedYet',
      'targets.0.apiVersion',
    ],
    ['a StatefulSet', (one) => Object.assign(one.targets[0] ?? {}, { kind: 'StatefulSet' }), 'NotSupportedYet', 'targets.0.kind'],
    ['az-snp-vtpm', (one) => Object.assign(one.guests['h200-snp'] ?? {}, { tee: 'az-snp-vtpm' }), 'NotSupportedYet', 'guests.h200-snp.tee'],
  ])('%s', (_name, change, reason, field) => {
    const parsed = parseDocument('releases/w-7f3a/12.yaml', release(change));
    expect(parsed).toMatchObject({ kind: 'bad', reason });
    expect(parsed.kind === 'bad' && parsed.about.startsWith(`releases/w-7f3a/12.yaml: ${field}: expected `)).toBe(true);
  });

  it('serial 0 describes what runs, and is not carried out yet', () => {
    const zero = release((one) => {
      Object.assign(one, { serial: 0, previous: null });
      Object.assign(one.artifact, { source: 'running', keyPath: 'a/b/c' });
    });
    expect(verdict(zero, 'releases/w-7f3a/0.yaml')).toBe('NotSupportedYet');
    expect(
      verdict(
        release((one) => Object.assign(one, { serial: 0, previous: null })),
        'releases/w-7f3a/0.yaml',
      ),
    ).toBe('Malformed');
  });

  it.each([
    ['a trusted root without a digest', /^trustedRoot: null/m, 'trustedRoot: { file: root.json }', 'Malformed'],
    ['a history that is no commit', /^history: null/m, 'history: main', 'Malformed'],
    ['revokers who need two', /threshold: 1/, 'threshold: 2', 'Malformed'],
    ['recoverers without a spare', /recoverers: {8}\{ threshold: 2|recoverers: +\{ threshold: 2/, 'recoverers: { threshold: 3', 'Malformed'],
    ['a stranger in a role', /administrators: +\{ threshold: 2, people: \[first-person/, 'administrators: { threshold: 2, people: [nobody', 'Malformed'],
    [
      'one person twice in a role',
      /administrators: +\{ threshold: 2, people: \[first-person/,
      'administrators: { threshold: 2, people: [third-person',
      'Malformed',
    ],
    ['one person twice', /id: second-person,/, 'id: third-person,', 'Malformed'],
  ])('a trust document with %s', (_name, from, to, reason) => {
    const text = example('Trust').toString();
    expect(text).toMatch(from);
    expect(verdict(text.replace(from, to), 'trust/1.yaml')).toBe(reason);
  });

  it('a baseline that replaces attestation policies', () => {
    const text = example('Baseline').toString();
    const policy = `attestationPolicies: { default_cpu: { file: a.rego, digest: sha256:${'1'.repeat(64)} } }`;
    expect(verdict(text.replace(/^attestationPolicies: \{\}/m, policy), 'baseline/main/1.yaml')).toBe('NotSupportedYet');
    expect(verdict(text.replace('default/security-policy/*', 'default/**'), 'baseline/main/1.yaml')).toBe('Malformed');
  });
});
