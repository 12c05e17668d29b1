import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { CompactSign } from 'jose';
import { canonicalJson, type Json } from '#src/domain/json.ts';
import { type Instant, millisecondsOf } from '#src/instant.ts';
import { issue, makeAuthority } from '#src/lab/certificates.ts';

/** What the verifier finds a guest to be. */
export interface Guest {
  readonly svn: string;
  /** Of the machine's firmware; the one that all have where it is not said. */
  readonly launchDigest?: string;
  /** As the sample verifier writes it into the token; null: none was sent. */
  readonly initData: string | null;
  /** Whether its measurement is among the reference values now. */
  readonly affirming: boolean;
}

/** Signs attestation results as Trustee's attestation service does, under a CA of its own. */
export interface Verifier {
  /** PEM of its CA. */
  readonly authorityPem: string;
  /** An EAR for a guest with a fresh TEE key. */
  readonly attest: (guest: Guest, at: Instant) => Promise<{ readonly token: string; readonly teeKey: string }>;
}

const PROFILE = 'tag:github.com,2024:confidential-containers/Trustee';
/** Trustee's default. Seconds. */
const TOKEN_SECONDS = 300;

/** Opens a verifier. */
export async function openVerifier(): Promise<Verifier> {
  const authority = await makeAuthority('test token CA');
  const signer = await issue(authority, { commonName: 'test token signer', names: [] });
  const key = createPrivateKey(signer.keyPem);
  const chain = [signer.certificatePem, authority.certificatePem].map((pem) => new X509Certificate(pem).raw.toString('base64'));
  const { d: _, ...publicKey } = key.export({ format: 'jwk' });
  const header = { typ: 'JWT', alg: 'ES256', jwk: { ...publicKey, alg: 'ES256', x5c: chain } };
  return {
    authorityPem: authority.certificatePem,
    attest: async (guest, at) => {
      const teeKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
      const payload = Buffer.from(JSON.stringify(payloadOf(guest, { ...teeKey, alg: 'ECDH-ES+A256KW' } as Json, at)));
      return { token: await new CompactSign(payload).setProtectedHeader(header).sign(key), teeKey: thumbprintOf(teeKey as Record<string, string>) };
    },
  };
}

function payloadOf(guest: Guest, teeKey: Json, at: Instant): Json {
  const issuedAt = Math.floor(millisecondsOf(at) / 1000);
  const runtimeData: Json = { 'tee-pubkey': teeKey, nonce: randomBytes(32).toString('base64'), 'additional-evidence': '' };
  const reportData = createHash('sha384').update(canonicalJson(runtimeData)).digest('base64');
  return {
    eat_profile: PROFILE,
    iat: issuedAt,
    exp: issuedAt + TOKEN_SECONDS,
    iss: 'CoCo-Attestation-Service',
    'ear.verifier-id': { developer: 'https://confidentialcontainers.org', build: 'test' },
    submods: {
      cpu0: {
        'ear.status': guest.affirming ? 'affirming' : 'contraindicated',
        'ear.trustworthiness-vector': { 'instance-identity': 0, configuration: 2, executables: 3, hardware: guest.affirming ? 2 : 97 },
        'ear.appraisal-policy-id': 'default_cpu',
        'ear.veraison.annotated-evidence': {
          init_data: guest.initData,
          report_data: reportData,
          runtime_data_claims: runtimeData,
          sample: { svn: guest.svn, debug: false, launch_digest: guest.launchDigest ?? 'abcde', major_version: '1', minimum_minor_version: '1' },
        },
      },
    },
  };
}

/** RFC 7638 §3 of an EC key. */
function thumbprintOf({ crv, kty, x, y }: Record<string, string>): string {
  return createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
}
