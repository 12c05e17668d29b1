import { z } from 'zod';
import { reference } from '#src/reference.ts';

/** Where a broker is. Keys are posted to it as they are, so the line must be TLS; only this very machine may do without. */
const brokerUrl = z
  .url({ protocol: /^https?$/ })
  .max(2048)
  .refine(isPrivate, 'expected https (http on this machine’s loopback alone): keys are posted to it as they are');

/** A signing key of the admin token: `{ id, file }` or `{ id, env }`. The id is sent as `kid`. */
const adminKey = z.union([
  z.strictObject({ id: z.string().min(1).max(200), file: z.string().min(1).max(4096) }),
  z.strictObject({ id: z.string().min(1).max(200), env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable') }),
]);

/** A role of the KBS's `regex_acl`. */
const role = z.string().min(1).max(200);

/** Longest handling of one write by the KBS, of each kind. Seconds. */
const handlingBounds = z
  .strictObject({
    /** 40: a write is one call to the KBS's storage; one that takes longer than half a minute has failed. */
    policy: z.number().min(0).max(3600).default(40),
    resource: z.number().min(0).max(3600).default(40),
    /** 600: a registration waits for the verifier's lock, which evaluations hold through their calls to vendors (60 s each, several devices). */
    referenceValue: z.number().min(0).max(3600).default(600),
  })
  .prefault({});

/** `kbs.<name>` of keyturn.yaml: a Trustee KBS, v0.21 or later (its admin tokens carry a role). */
export const trusteeSchema = z.strictObject({
  /** Where Keyturn and its proxy reach the broker. */
  url: brokerUrl,
  /** The name that guests use: the proxy's. */
  publicUrl: z.url({ protocol: /^https?$/ }).max(2048),
  /** Each replica's own URL, where they do not share storage: every write and every question then goes to each. */
  replicas: z.array(brokerUrl).max(16).default([]),
  /** PEM of the CA that the broker's certificate chains to; the system's otherwise. */
  certificateAuthority: reference.optional(),
  admin: z.strictObject({
    /** Ed25519 or P-256 (ES256), PEM. The first signs, the rest are for overlap; each is read anew for every token. */
    keys: z.array(adminKey).min(1).max(8),
    issuer: z.string().min(1).max(2048).optional(),
    audience: z.string().min(1).max(2048).optional(),
    roles: z.strictObject({ resource: role, policy: role, referenceValue: role }),
  }),
  /** PEM of the CAs that the attestation service's token signer chains to. */
  attestationSigners: reference,
  /** First segment of every path that we write. `keyturn` is the prober's. */
  repository: z.string().regex(/^(?!keyturn$)[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}$/, 'expected a segment of a KBS path; keyturn is the prober’s'),
  /** What the KBS keeps resources in. local-json loses sessions and updates under two clients (`46 of 50 parallel handshakes failed`). */
  storage: z.enum(['postgres', 'local-fs'], { error: 'expected postgres or local-fs; local-json is refused: it serves one client at a time' }),
  /** Life of an admin token. Seconds; 10: a snapshot and one request fit in it, and late writes are soon impossible. */
  tokenSeconds: z.int().min(2).max(300).default(10),
  /** What this KBS allows after `exp`. Seconds; 60 is jsonwebtoken's own. */
  leewaySeconds: z.int().min(0).max(600).default(60),
  /** How far its clock may stand from the database's. Seconds; 5, since NTP keeps healthy machines well within one. */
  clockBoundSeconds: z.number().min(0).max(300).default(5),
  /** Longest time between its check of `exp` and the write being stored or lost. */
  handlingBoundSeconds: handlingBounds,
});

/** The settings of one KBS, checked. */
export type TrusteeConfig = z.infer<typeof trusteeSchema>;

/** What an operator should hear at start: allowed, and not good. */
export function trusteeWarnings(name: string, config: TrusteeConfig): readonly string[] {
  if (config.storage !== 'local-fs') return [];
  return [`kbs.${name}.storage is local-fs: a read during an overwrite can find half of a text; postgres is recommended`];
}

function isPrivate(url: string): boolean {
  // What is no URL at all has been told so already: zod asks every check.
  const { protocol, hostname } = URL.parse(url) ?? { protocol: 'https:', hostname: '' };
  return protocol === 'https:' || hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}
