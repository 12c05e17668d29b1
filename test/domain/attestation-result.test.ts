import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { CompactSign, calculateJwkThumbprint, exportJWK, generateKeyPair } from 'jose';
import { beforeAll, expect, test } from 'vitest';
import { type Appraisal, appraise, type Expectation, teeKeyOf } from '#src/domain/attestation-result.ts';
import { canonicalJson, type Json } from '#src/domain/json.ts';
import { instantOf, later, parseInstant } from '#src/instant.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';
import expiredAuthority from '../vectors/ear/expired-authority.json' with { type: 'json' };
import recorded from '../vectors/ear/recorded.json' with { type: 'json' };
import synthetic from '../vectors/ear/synthetic.json' with { type: 'json' };

const AT = parseInstant(synthetic.at);
const TDX: Expectation = { tee: 'tdx', devices: { gpu: 1, switch: 0 }, initData: synthetic.initData, claims: synthetic.claims, maxAgeSeconds: 300 };

/** The reason alone, or `good`. */
function outcome(appraisal: Appraisal): string {
  return appraisal.kind === 'good' ? 'good' : appraisal.reason;
}

/** The synthetic token of this name, judged as the good one is expected to be. */
async function judged(name: keyof typeof synthetic.tokens, expected = TDX, at = AT): Promise<Appraisal> {
  return appraise(synthetic.tokens[name], at, [synthetic.authority], expected);
}

test('a good token is good, and names the TEE key by its RFC 7638 thumbprint', async () => {
  const appraisal = await judged('good');
  expect(outcome(appraisal)).toBe('good');
  const { x, y } = { x: 'ECJB50xa9H2ffWyIRY9gRn4MZkXY9polvz91J7Ivb1M', y: '-Kk1P2Xqyhti_mDwZADOcNKh8jaEcZzoIu8YIkaIkmQ' };
  expect(appraisal.kind === 'good' && appraisal.teeKey).toBe(await calculateJwkThumbprint({ kty: 'EC', crv: 'P-256', x, y }));
  expect(appraisal.kind === 'good' && appraisal.evidence).toMatchObject({ bound: 'recomputed', issuedAt: 1795435200 });
});

test.each([
  ['alg-none', 'AttestationInvalid'],
  ['bad-signature', 'AttestationInvalid'],
  ['tampered-payload', 'AttestationInvalid'],
  ['jwk-not-x5c-leaf', 'AttestationInvalid'],
  ['ephemeral-jwk-only', 'AttestationInvalid'],
  ['untrusted-ca-same-subject', 'AttestationInvalid'],
  ['iat-in-future', 'AttestationInvalid'],
  ['lifetime-30d', 'AttestationInvalid'],
  ['expired', 'PodNotAttested'],
  ['gpu-missing', 'MeasurementMismatch'],
  ['gpu-contraindicated-ocsp-revoked', 'MeasurementMismatch'],
  ['tdx-collateral-expired', 'MeasurementMismatch'],
  ['tdx-out-of-date-tcb', 'MeasurementMismatch'],
  ['warning-executables-33', 'MeasurementMismatch'],
  ['status-lies-about-vector', 'MeasurementMismatch'],
  ['measurement-not-in-release', 'MeasurementMismatch'],
  ['report-data-not-bound', 'AttestationInvalid'],
  ['wrong-nonce', 'AttestationInvalid'],
] as const)('the trap %s is caught', async (name, reason) => {
  expect(outcome(await judged(name))).toBe(reason);
});

test('a policy’s name is no claim: it says nothing of the policy’s text', async () => {
  expect(outcome(await judged('wrong-policy-id'))).toBe('good');
});

test('what the release expects decides: another TEE, init-data, device count, claim or age is a no', async () => {
  const claims = { 'tdx.quote.body.mr_td': ['00'] };
  const refused: readonly [string, Expectation][] = [
    ['MeasurementMismatch', { ...TDX, tee: 'snp' }],
    ['MeasurementMismatch', { ...TDX, initData: '1'.repeat(96) }],
    ['MeasurementMismatch', { ...TDX, devices: { gpu: 0, switch: 0 } }],
    ['MeasurementMismatch', { ...TDX, devices: { gpu: 2, switch: 0 } }],
    ['MeasurementMismatch', { ...TDX, claims }],
    ['MeasurementMismatch', { ...TDX, claims: {} }],
    ['MeasurementMismatch', { ...TDX, claims: { 'tdx.quote.body.mr_td': [] } }],
    ['MeasurementMismatch', { ...TDX, claims: { 'tdx.constructor.name': ['Object'] } }],
    ['PodNotAttested', { ...TDX, maxAgeSeconds: 59 }],
  ];
  for (const [reason, expected] of refused) expect(outcome(await judged('good', expected))).toBe(reason);
});

test('no pinned CA means nobody is trusted', async () => {
  expect(outcome(await appraise(synthetic.tokens.good, AT, [], TDX))).toBe('AttestationInvalid');
});

test('a certificate out of date at the moment of judging does not count, though the token is young', async () => {
  expect(outcome(await judged('good', TDX, parseInstant('2037-01-01T00:00:00Z')))).toBe('AttestationInvalid');
});

test.each(['', 'a.b', 'a.b.c', '..', `${'e30'}.${'e30'}.`, 'x'.repeat(300_000), `${Buffer.from('[]').toString('base64url')}.e30.e30`])(
  'no token at all (case %#) is refused, not thrown at',
  async (token) => {
    expect(outcome(await appraise(token, AT, [synthetic.authority], TDX))).toBe('AttestationInvalid');
    expect(teeKeyOf(token)).toBeNull();
  },
);

// ---------------------------------------------------------------- recorded

const RECORDED_AT = parseInstant('2026-11-23T09:20:20Z');
const SAMPLE: Expectation = {
  tee: 'sample',
  devices: { gpu: 0, switch: 0 },
  initData: 'HipL4aGnmksGjsQxJf5Gg5Ay8NrNu6/acJCypX9s6qqC2u+AzSeuGoWZ2Obc3nBS',
  claims: { 'sample.svn': ['1'] },
  maxAgeSeconds: 300,
};

test('a token recorded from Trustee with init-data is good under its CA, and under no other', async () => {
  const [token = ''] = recorded.tokens['06-rcar-init-data'];
  expect(outcome(await appraise(token, RECORDED_AT, [recorded.authority], SAMPLE))).toBe('good');
  expect(outcome(await appraise(token, RECORDED_AT, [recorded.untrusted, recorded.authority], SAMPLE))).toBe('good');
  expect(outcome(await appraise(token, RECORDED_AT, [recorded.untrusted], SAMPLE))).toBe('AttestationInvalid');
  expect(outcome(await appraise(token, RECORDED_AT, [recorded.authority], { ...SAMPLE, claims: { 'sample.svn': ['2'] } }))).toBe('MeasurementMismatch');
});

test('recorded tokens that Trustee gave with 200 but not affirming are no good', async () => {
  for (const name of ['02-rcar-cookie-p256', '04-rcar-rsa-key', '05-rcar-sampledevice'] as const) {
    for (const token of recorded.tokens[name]) expect(outcome(await appraise(token, RECORDED_AT, [recorded.authority], SAMPLE))).toBe('MeasurementMismatch');
  }
  const [ephemeral = ''] = recorded.tokens['30-ephemeral-signer'];
  expect(outcome(await appraise(ephemeral, RECORDED_AT, [recorded.authority], SAMPLE))).toBe('AttestationInvalid');
});

test('a pinned CA that is out of date vouches for nobody, though its signer is in date', async () => {
  const { token, authority } = expiredAuthority;
  expect(outcome(await appraise(token, RECORDED_AT, [authority], SAMPLE))).toBe('AttestationInvalid');
  // The same token, judged while the CA was good, fails by nothing but its own age.
  expect(await appraise(token, parseInstant('2026-05-01T00:00:00Z'), [authority], SAMPLE)).toMatchObject({ about: 'the token is from the future' });
});

test('the TEE key of a recorded token is read without judging it, RSA too', async () => {
  const [rsa = ''] = recorded.tokens['04-rcar-rsa-key'];
  const payload = JSON.parse(Buffer.from(rsa.split('.')[1] ?? '', 'base64url').toString()) as {
    submods: Record<string, Record<string, Record<string, Record<string, never>>>>;
  };
  const key = payload.submods.cpu0?.['ear.veraison.annotated-evidence']?.runtime_data_claims?.['tee-pubkey'];
  expect(teeKeyOf(rsa)).toBe(await calculateJwkThumbprint(key ?? {}));
});

// ---------------------------------------------------------------- made here

type Change = (payload: { submods: Record<string, Record<string, Json>> } & Record<string, Json>) => void;

let signing: { authority: string; header: { alg: 'ES256'; jwk: Record<string, unknown> }; key: CryptoKey | ReturnType<typeof createPrivateKey> };
beforeAll(async () => {
  const authority = await makeAuthority('token test CA');
  const leaf = await issue(authority, { commonName: 'signer', names: ['signer.example'] });
  const certificate = new X509Certificate(leaf.certificatePem);
  const jwk = { ...certificate.publicKey.export({ format: 'jwk' }), alg: 'ES256', x5c: [certificate.raw.toString('base64')] };
  signing = { authority: authority.certificatePem, header: { alg: 'ES256', jwk }, key: createPrivateKey(leaf.keyPem) };
});

const NOW = instantOf(Date.now());

/** A good sample token with one GPU, changed. */
async function made(change: Change): Promise<string> {
  const { publicKey } = await generateKeyPair('ECDH-ES+A256KW', { crv: 'P-256', extractable: true });
  const { kty = '', crv = '', x = '', y = '' } = await exportJWK(publicKey);
  const device = { nonce: 'bm9uY2U=', 'tee-pubkey': { kty, crv, x, y, alg: 'ECDH-ES+A256KW' } };
  const digest = (value: Json): Buffer => createHash('sha384').update(canonicalJson(value)).digest();
  const runtime = { ...device, 'additional-evidence': '' };
  const vector = { hardware: 2, executables: 3, configuration: 2 };
  const submod = (evidence: Record<string, Json>): Record<string, Json> => ({
    'ear.status': 'affirming',
    'ear.trustworthiness-vector': vector,
    'ear.appraisal-policy-id': 'default',
    'ear.veraison.annotated-evidence': evidence,
  });
  const seconds = Math.floor(Date.parse(NOW) / 1000);
  const payload = {
    eat_profile: 'tag:github.com,2024:confidential-containers/Trustee',
    iat: seconds - 5,
    exp: seconds + 295,
    submods: {
      cpu0: submod({ init_data: 'aW5pdA==', report_data: digest(runtime).toString('base64'), runtime_data_claims: runtime, sample: { svn: '1' } }),
      gpu0: submod({ report_data: digest(device).subarray(0, 32).toString('hex'), runtime_data_claims: device, nvidia: {} }),
    },
  };
  change(payload);
  return new CompactSign(Buffer.from(JSON.stringify(payload))).setProtectedHeader(signing.header).sign(signing.key);
}

const MADE: Expectation = { tee: 'sample', devices: { gpu: 1, switch: 0 }, initData: 'aW5pdA==', claims: { 'sample.svn': ['1'] }, maxAgeSeconds: 60 };

async function madeOutcome(change: Change, expected = MADE): Promise<string> {
  return outcome(await appraise(await made(change), NOW, [signing.authority], expected));
}

/** The evidence of a submod of a token that is being made. */
function evidenceIn(payload: Parameters<Change>[0], name: string): Record<string, Record<string, Json>> {
  return payload.submods[name]?.['ear.veraison.annotated-evidence'] as Record<string, Record<string, Json>>;
}

test('a vector counts by its members: a missing required one, an unknown one, a value beyond the standard, or a status that says less', async () => {
  const vectors: readonly Json[] = [
    { hardware: 2, configuration: 2 },
    { hardware: 2, executables: 3, configuration: 0 },
    { hardware: 2, executables: 3, configuration: 300 },
  ];
  const more: readonly Json[] = [
    { hardware: 2, executables: 3, configuration: 2, file_system: 2 },
    { hardware: 2, executables: 3, configuration: 2.5 },
    [],
    null,
  ];
  expect(await madeOutcome(() => undefined)).toBe('good');
  for (const vector of [...vectors, ...more]) {
    expect(await madeOutcome(({ submods }) => Object.assign(submods.gpu0 ?? {}, { 'ear.trustworthiness-vector': vector }))).toBe('MeasurementMismatch');
  }
  expect(await madeOutcome(({ submods }) => Object.assign(submods.cpu0 ?? {}, { 'ear.status': 'warning' }))).toBe('MeasurementMismatch');
});

test('a certificate that is no CA vouches for nobody, and the header’s key must be the certificate’s', async () => {
  const authority = await makeAuthority('another CA');
  const middle = await issue(authority, { commonName: 'no CA', names: ['a.example'] });
  const leaf = await issue(middle, { commonName: 'signer', names: ['b.example'] });
  const [first, second] = [leaf, middle].map(({ certificatePem }) => new X509Certificate(certificatePem));
  const jwk: Record<string, unknown> = {
    ...first?.publicKey.export({ format: 'jwk' }),
    x5c: [first, second].map((certificate) => certificate?.raw.toString('base64')),
  };
  const payload = Buffer.from((await made(() => undefined)).split('.')[1] ?? '', 'base64url');
  const below = await new CompactSign(payload).setProtectedHeader({ alg: 'ES256', jwk }).sign(createPrivateKey(leaf.keyPem));
  expect(outcome(await appraise(below, NOW, [authority.certificatePem], MADE))).toBe('AttestationInvalid');
  const other: Record<string, unknown> = { ...signing.header.jwk, x: signing.header.jwk.y };
  const strange = await new CompactSign(payload).setProtectedHeader({ alg: 'ES256', jwk: other }).sign(signing.key);
  expect(outcome(await appraise(strange, NOW, [signing.authority], MADE))).toBe('AttestationInvalid');
});

test('collateral that had expired, or a revoked TCB, is a no though the policy called it affirming', async () => {
  const later2027 = '2027-11-23T00:00:00Z';
  const tdx =
    (claims: Record<string, Json>): Change =>
    (payload) =>
      Object.assign(evidenceIn(payload, 'cpu0'), { sample: undefined, tdx: { svn: '1', ...claims } });
  const expected: Expectation = { ...MADE, tee: 'tdx', claims: { 'tdx.svn': ['1'] } };
  expect(await madeOutcome(tdx({ collateral_expiration_status: '0', tcb_status: 'UpToDate', earliest_expiration_date: later2027 }), expected)).toBe('good');
  expect(await madeOutcome(tdx({ collateral_expiration_status: '1' }), expected)).toBe('MeasurementMismatch');
  expect(await madeOutcome(tdx({ tcb_status: 'Revoked' }), expected)).toBe('MeasurementMismatch');
  expect(await madeOutcome(tdx({ earliest_expiration_date: '2026-01-01T00:00:00Z' }), expected)).toBe('MeasurementMismatch');
});

test('a submod more than expected is a no, and ppcie0 only comes with switches', async () => {
  const more =
    (name: string): Change =>
    (payload) =>
      Object.assign(payload.submods, { [name]: payload.submods.gpu0 });
  expect(await madeOutcome(more('gpu1'))).toBe('MeasurementMismatch');
  expect(await madeOutcome(more('cpu1'))).toBe('MeasurementMismatch');
  expect(await madeOutcome(more('ppcie0'))).toBe('MeasurementMismatch');
  const both: Change = (payload) => [more('ppcie0'), more('switch0')].forEach((add) => void add(payload));
  expect(await madeOutcome(both, { ...MADE, devices: { gpu: 1, switch: 1 } })).toBe('good');
});

test('a device’s evidence from another handshake is a no', async () => {
  expect(await madeOutcome((payload) => Object.assign(evidenceIn(payload, 'gpu0').runtime_data_claims ?? {}, { nonce: 'b3RoZXI=' }))).toBe(
    'AttestationInvalid',
  );
  expect(await madeOutcome((payload) => Object.assign(evidenceIn(payload, 'gpu0'), { report_data: '00'.repeat(32) }))).toBe('AttestationInvalid');
});

test('without additional-evidence the binding cannot be recomputed, and the evidence says so', async () => {
  const token = await made((payload) => void delete evidenceIn(payload, 'cpu0').runtime_data_claims?.['additional-evidence']);
  expect(await appraise(token, NOW, [signing.authority], MADE)).toMatchObject({ kind: 'good', evidence: { bound: 'as the verifier says' } });
});

test('a token without a TEE key, with another profile, with text for seconds, or not valid yet is a no', async () => {
  expect(await madeOutcome((payload) => void delete evidenceIn(payload, 'cpu0').runtime_data_claims)).toBe('AttestationInvalid');
  expect(await madeOutcome((payload) => Object.assign(payload, { eat_profile: 'tag:other' }))).toBe('AttestationInvalid');
  expect(await madeOutcome((payload) => Object.assign(payload, { exp: String(payload.exp) }))).toBe('AttestationInvalid');
  expect(await madeOutcome((payload) => Object.assign(payload, { nbf: Number(payload.exp) - 10 }))).toBe('AttestationInvalid');
});

test('two spellings of one key’s coordinate have no two thumbprints', async () => {
  const token = await made((payload) => {
    const key = evidenceIn(payload, 'cpu0').runtime_data_claims?.['tee-pubkey'] as Record<string, string>;
    key.x = `${key.x}=`;
  });
  expect(teeKeyOf(token)).toBeNull();
});

test('the age counts at the moment of judging, on both of its edges', async () => {
  const token = await made(() => undefined);
  expect(outcome(await appraise(token, later(NOW, 54), [signing.authority], MADE))).toBe('good');
  expect(outcome(await appraise(token, later(NOW, 57), [signing.authority], MADE))).toBe('PodNotAttested');
  expect(outcome(await appraise(token, later(NOW, -20), [signing.authority], MADE))).toBe('good');
  expect(outcome(await appraise(token, later(NOW, -40), [signing.authority], MADE))).toBe('AttestationInvalid');
});
