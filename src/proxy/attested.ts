import type pg from 'pg';
import { teeKeyOf } from '#src/domain/attestation-result.ts';
import { decodeToken, evidenceOf, type Members, memberOf, membersOf } from '#src/domain/attestation-token.ts';
import type { Json } from '#src/domain/json.ts';
import { findHandshake } from '#state/handshakes.ts';
import { type Credential, sha256 } from './credential.ts';

/**
 * What the log and the deny-list need of a guest's token, and no more of it: thousands are remembered, and
 * an eight-GPU token is 120 KiB. Not judged: the KBS has verified it where it answers, and gates verify it again.
 */
export interface Attested {
  readonly tokenDigest: string;
  /** RFC 7638 thumbprint; null: the token has no TEE key. */
  readonly teeKey: string | null;
  /** Its init-data digests and what its devices are called: what a deny-list may name. */
  readonly names: readonly string[];
  /** For the log. */
  readonly summary: Readonly<Record<string, Json>>;
}

/** Reads a token that the KBS gave; null: it is none, or one with more names than a machine has. `digest`: its SHA-256, where it is known. */
export function attestedBy(token: string, digest = sha256(token)): Attested | null {
  const payload = decodeToken(token)?.payload;
  if (payload === undefined) return null;
  const names = namesIn(payload);
  if (names.reduce((characters, name) => characters + name.length, 0) > NAMES_MAX_CHARACTERS) return null;
  const teeKey = teeKeyOf(token);
  return { tokenDigest: digest, teeKey, names, summary: { tokenDigest: digest, teeKey, ...summaryOf(payload) } };
}

/** Where verifiers write what a machine is called: AMD's chip id, NVIDIA's ueid and uuid. */
const DEVICE_CLAIMS = ['chip_id', 'ueid', 'uuid'];

/** Init-data digests and device names in a token's submods. The token is not verified here: the KBS does that, and a forged one releases nothing. */
function namesIn(payload: Members): readonly string[] {
  return Object.values(membersOf(memberOf(payload, 'submods')) ?? {}).flatMap((submod) => {
    const evidence = memberOf(submod, 'ear.veraison.annotated-evidence');
    const devices = Object.values(membersOf(evidence) ?? {}).flatMap((claims) => DEVICE_CLAIMS.map((name) => memberOf(claims, name)));
    return [memberOf(evidence, 'init_data'), ...devices].filter((name) => typeof name === 'string');
  });
}

/** What a SIEM wants to know of an attestation (acceptance: event fields): decision by submod, verifier, init-data (the runtime policy's id). */
function summaryOf(payload: Members): Readonly<Record<string, Json>> {
  const submods = membersOf(memberOf(payload, 'submods')) ?? {};
  const first = Object.entries(submods).slice(0, SUBMODS_SHOWN);
  return {
    attestation: Object.fromEntries(first.map(([name, submod]) => [name.slice(0, TEXT_SHOWN), shownOf(memberOf(submod, 'ear.status'))])),
    verifier: shownOf(memberOf(payload, 'iss')),
    verifierBuild: shownOf(memberOf(memberOf(payload, 'ear.verifier-id'), 'build')),
    attestationPolicy: shownOf(memberOf(submods.cpu0, 'ear.appraisal-policy-id')),
    initData: shownOf(memberOf(evidenceOf(submods.cpu0) ?? undefined, 'init_data')),
  };
}

/** Anybody may show a token that nobody has signed, with whatever in it: of a text a line holds so much, of anything else nothing. */
function shownOf(value: Json | undefined): string | null {
  return typeof value === 'string' ? value.slice(0, TEXT_SHOWN) : null;
}

/** The longest digest, in hexadecimal, and some. Characters. */
const TEXT_SHOWN = 200;
/** Eight GPUs, four switches and their CPU. */
const SUBMODS_SHOWN = 16;
/** Sixteen machines' names would fit. */
const NAMES_MAX_CHARACTERS = 16 * 1024;
/** Sessions and tokens live some minutes; those of a larger fleet are read or looked up again. */
const REMEMBERED_MAX = 4096;

/** What this proxy saw of each session and token, and through the database what others saw. */
export interface Guests {
  /** Remembers a handshake under its session and its token. */
  readonly add: (sessionDigest: string, attested: Attested) => void;
  /** From memory or from the token itself; null: a session that was attested elsewhere, or no token. */
  readonly seen: (credential: Credential) => Attested | null;
  /** The same, or from the database; null: nobody recorded that handshake. Throws Fault. */
  readonly find: (credential: Credential) => Promise<Attested | null>;
}

/** Remembers the latest ones, the oldest forgotten first. */
export function openGuests(pool: pg.Pool, kbs: string): Guests {
  const byDigest = new Map<string, Attested>();
  const remember = (digest: string, attested: Attested): void => {
    byDigest.delete(digest);
    byDigest.set(digest, attested);
    const [oldest] = byDigest.keys();
    if (byDigest.size > REMEMBERED_MAX && oldest !== undefined) byDigest.delete(oldest);
  };
  const seen = ({ kind, value, digest }: Credential): Attested | null => {
    const known = byDigest.get(digest);
    if (known !== undefined || kind === 'session') return known ?? null;
    const read = attestedBy(value, digest);
    if (read !== null) remember(digest, read);
    return read;
  };
  return {
    add: (sessionDigest, attested) => {
      remember(sessionDigest, attested);
      remember(attested.tokenDigest, attested);
    },
    seen,
    find: async (credential) => {
      const here = seen(credential);
      if (here !== null || credential.kind === 'token') return here;
      const found = await findHandshake(pool, kbs, { session: credential.digest });
      return found === null ? null : attestedBy(found.token);
    },
  };
}
