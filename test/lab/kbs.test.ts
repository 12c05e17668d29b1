import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { policyProgramDigest } from '#src/domain/policy.ts';
import { type LabKbs, type LabKbsOptions, openLabKbs } from '#src/lab/kbs.ts';
import { readPolicy } from '#src/lab/kbs-policy.ts';
import type { Json } from '#src/lab/kbs-wire.ts';
import { type DriverKeys, makeKeys, type Observed, openDriver, type Template } from './kbs-driver.ts';

interface Recording {
  readonly name: string;
  readonly profile: string;
  readonly steps: readonly { readonly restart?: true; readonly note?: string; readonly request: Template; readonly expected: Observed }[];
}

function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../vectors/trustee/${name}.json`, import.meta.url), 'utf8')) as T;
}

const { recordings } = vectors<{ recordings: readonly Recording[] }>('recordings');

/** What a profile of the recordings changes. */
const PROFILES: Readonly<Record<string, Partial<LabKbsOptions>>> = {
  memory: { folder: null },
  'deny-all': { adminMode: 'deny-all' },
  'allow-all': { adminMode: 'insecure-allow-all' },
  'expired-token': { tokenMinutes: -2 },
  'expired-session': { sessionMinutes: -1 },
};

const ROLES = [
  { role: 'admin', allowedEndpoints: '^/kbs/.+$' },
  { role: 'rotator', allowedEndpoints: '^/kbs/v0/(resource/models/[A-Za-z0-9_.-]+/v[0-9]+|reference-value(/.+)?)$' },
  { role: 'policy', allowedEndpoints: '^/kbs/v0/(resource-policy|attestation-policy)$' },
  { role: 'auditor', allowedEndpoints: '^/kbs/v0/reference-value/[a-z_]+$' },
  { role: 'auditor', allowedEndpoints: '^/kbs/v0/resource-policy$' },
];

let keys: DriverKeys;
let folder: string;
beforeAll(async () => {
  keys = await makeKeys();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lab-kbs-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

function open(change: Partial<LabKbsOptions> = {}): Promise<LabKbs> {
  return openLabKbs({ folder, clock: async () => Date.now(), tokenLeewaySeconds: 60, roles: ROLES, ...keys.options, ...change });
}

describe('the lab KBS answers as a real one was recorded to', () => {
  it.each(recordings)('$name', async ({ profile, steps }) => {
    const kbs = await open(PROFILES[profile]);
    const drive = openDriver(kbs.url, keys);
    for (const [index, step] of steps.entries()) {
      if (step.restart) kbs.restart();
      else expect({ step: index, ...(await drive(step.request)) }).toEqual({ step: index, ...step.expected });
    }
    await kbs.close();
  });
});

describe('the lab KBS', () => {
  let kbs: LabKbs;
  let drive: ReturnType<typeof openDriver>;
  const allow: Template = { path: '/kbs/v0/resource-policy', admin: 'admin', rego: 'package policy\n\ndefault allow = true\n' };
  const put = (text: string): Template => ({ method: 'POST', path: '/kbs/v0/resource/models/a/v1', admin: 'admin', text });
  beforeEach(async () => {
    kbs = await open();
    drive = openDriver(kbs.url, keys);
  });
  afterEach(() => kbs.close());

  it.each([
    ['an engine would take', 'package policy\n\ndefault allow = true\n\nother := 1\n'],
    ['no engine would take', 'package policy\n\nallow = {\n'],
  ])('refuses a Rego that %s aloud, and keeps the policy that it has', async (_, rego) => {
    const before = kbs.policy();
    expect(await drive({ ...allow, rego })).toMatchObject({ status: 400, type: 'LabCannotEvaluate' });
    expect(await drive({ ...allow, path: '/kbs/v0/attestation-policy', attPolicy: { id: 'default_cpu', rego } })).toMatchObject({ status: 400 });
    expect(kbs.policy()).toBe(before);
  });

  it('takes a body of two mebibytes, and no byte more', async () => {
    const largest = 2 * 1024 * 1024;
    expect(await drive(put('a'.repeat(largest)))).toMatchObject({ status: 200 });
    expect(await drive({ ...put('b'.repeat(largest + 1)), admin: { key: 'unknown' } })).toEqual({
      status: 413,
      contentType: 'text/plain; charset=utf-8',
      text: 'payload reached size limit',
    });
    expect(kbs.stored('models/a/v1')?.length).toBe(largest);
  });

  it('stores no reference value under a name that no storage takes, and those before it', async () => {
    const rv = { values: { 'a/b.c-d_1': ['1'], 'two words': ['2'], after: ['3'] } };
    expect(await drive({ method: 'POST', path: '/kbs/v0/reference-value', admin: 'admin', rv })).toMatchObject({ status: 401, type: 'RvpsError' });
    const answers = await Promise.all(['a/b.c-d_1', 'two%20words', 'after'].map((name) => drive({ path: `/kbs/v0/reference-value/${name}`, admin: 'admin' })));
    expect(answers).toMatchObject([{ status: 200 }, { status: 401, type: 'RvpsError' }, { status: 401, type: 'RvpsError' }]);
  });

  it('does a write whose answer is lost', async () => {
    kbs.faults.loseAnswer('resource');
    await expect(drive(put('x'))).rejects.toThrow();
    expect(kbs.stored('models/a/v1')?.toString()).toBe('x');
    expect(await drive(put('y'))).toMatchObject({ status: 200 });
  });

  it('does not do a write that it answers with an error of its own', async () => {
    kbs.faults.fail('resource');
    expect(await drive(put('x'))).toMatchObject({ status: 500 });
    expect(kbs.stored('models/a/v1')).toBeNull();
  });

  it('lets a held write land later, over what came meanwhile', async () => {
    kbs.faults.hold('resource');
    await expect(drive(put('late'))).rejects.toThrow();
    expect(kbs.stored('models/a/v1')).toBeNull();
    await drive(put('newer'));
    expect(kbs.stored('models/a/v1')?.toString()).toBe('newer');
    expect(await kbs.faults.land()).toEqual([200]);
    expect(kbs.stored('models/a/v1')?.toString()).toBe('late');
  });

  it('loses everything when it is wiped, and denies sample evidence again', async () => {
    await drive(allow);
    await drive(put('x'));
    kbs.restart({ wipe: true });
    expect(kbs.stored('models/a/v1')).toBeNull();
    expect(kbs.policy()).not.toContain('default allow = true');
  });

  it('refuses a role whose expression is not anchored, as a KBS does at its start', async () => {
    await expect(open({ roles: [{ role: 'admin', allowedEndpoints: '/kbs/.+' }] })).rejects.toThrow(RangeError);
  });

  it.each([
    [0, 0, 200],
    [0, 1, 401],
    [60, 60, 200],
    [60, 61, 401],
  ])('with a leeway of %i s takes an admin token %i s after its end: %i', async (tokenLeewaySeconds, late, status) => {
    const now = Math.floor(Date.now() / 1000);
    const other = await open({ tokenLeewaySeconds, clock: async () => (now + late) * 1000 });
    const admin = { role: 'admin', claims: { iat: now - 300, exp: now } };
    const answer = await openDriver(other.url, keys)({ path: '/kbs/v0/resource-policy', admin });
    expect(answer.status).toBe(status);
    await other.close();
  });
});

describe('Keyturn’s policy in the lab KBS', () => {
  interface Case {
    readonly name: string;
    readonly allow: boolean;
    readonly path: string;
    readonly token: Json;
    readonly plugin?: string | null;
  }
  const { policy, cases } = vectors<{ policy: string; cases: readonly Case[] }>('policy-decisions');

  it.each(cases)('is decided as a real engine decided it: $name', ({ allow, path, token, plugin }) => {
    const decide = readPolicy(policy);
    expect(decide?.({ plugin: plugin === undefined ? 'resource' : (plugin ?? ''), path: path.split('/'), claims: token })).toBe(allow);
  });

  it('is known by the digest of its program', () => {
    expect(readFileSync(new URL('../../src/lab/kbs-policy.ts', import.meta.url), 'utf8')).toContain(policyProgramDigest.slice('sha256:'.length));
  });

  it.each([
    ['a changed program', policy.replace('count(grant.claims) > 0', 'count(grant.claims) >= 0')],
    ['more after its end', `${policy}\nallow := true\n`],
    ['a first part alone', policy.slice(0, -20)],
    ['data that are no JSON', policy.replace('want := {', 'want := {,')],
    ['data of another shape', policy.replace('"generation":12,', '')],
  ])('is not known with %s', (_, text) => {
    expect(readPolicy(text)).toBeNull();
  });
});
