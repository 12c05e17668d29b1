import type { Digest } from '../digest.ts';
import type { Instant } from '../instant.ts';
import type { Tee } from './documents/fields.ts';
import type { ForeignGrant } from './documents/release.ts';
import type { Json } from './json.ts';
import type { KeyPath } from './paths.ts';

/** The three kinds of write that a KBS takes from us. */
export type WriteKind = 'policy' | 'referenceValue' | 'resource';

/** What a guest must be to fetch these paths: all of it at once. */
export interface Grant {
  readonly paths: readonly KeyPath[];
  readonly tee: Tee;
  /** Init-data's digest as that TEE's verifier writes it into the token. */
  readonly initData: string;
  /** Exactly this many device submods must be there, all affirming. */
  readonly devices: { readonly gpu: number; readonly switch: number };
  /** Pointer into `submods.cpu0["ear.veraison.annotated-evidence"]`, written with dots (`sample.svn`) → the values that are good. Never empty. */
  readonly claims: Readonly<Record<string, readonly Json[]>>;
}

/** What a KBS refuses whatever a grant says: each sorted, and each entry once. */
export interface Denied {
  /** Exact paths of others: our own leave the grants. */
  readonly paths: readonly KeyPath[];
  /** Init-data's digests, as verifiers write them into a token. */
  readonly initData: readonly string[];
  /** What machines and devices are called there: `chip_id`, `ueid`, `uuid`. */
  readonly devices: readonly string[];
}

/** What one KBS should hold, whole, over all workloads. Only the ledger makes one. */
export interface Want {
  readonly kbs: string;
  readonly installation: string;
  readonly generation: number;
  readonly grants: readonly Grant[];
  /** Other teams' grants, from the accepted baseline. */
  readonly foreign: readonly ForeignGrant[];
  readonly denied: Denied;
  /** Every name ever sent; one no longer wanted is `[]`. `keyturn.generation` is among them. */
  readonly referenceValues: Readonly<Record<string, Json>>;
}

/** The bytes that guests fetch at a path, wrapped by the key store, with a canary under the same key. Signed by `receipts.signer`. */
export interface Wrapped {
  readonly path: KeyPath;
  readonly store: string;
  readonly keyId: string;
  /** The encryption context of both: installation, rotation, path, release. */
  readonly context: Readonly<Record<string, string>>;
  /** Base64. */
  readonly wrapped: string;
  /** Base64: 32 random bytes, wrapped; its refusal proves that the key is disabled. */
  readonly canary: string;
  /** SHA-256 of the JCS of the members above. */
  readonly digest: Digest;
  /** Base64, over that JCS. */
  readonly signature: string;
}

/** What a system said. */
export interface Answer {
  /** HTTP status. */
  readonly status: number;
  /** The system's own error name (`PolicyDeny`, `DisabledException`); null where there is none: it was done. */
  readonly type: string | null;
  /** What the answer told beside: a key id, a request id. Never a secret. */
  readonly detail: Readonly<Record<string, string>>;
}

/** What a key store is told. `destroy`: to schedule the destruction. */
export type KeyVerb = 'create' | 'disable' | 'enable' | 'destroy';

/** One write, journalled before it was sent. */
export interface Sent {
  readonly id: number;
  /** The KBS or key store, by its name in the configuration. */
  readonly system: string;
  /** A WriteKind with `delete` beside it, or a key store's verb. */
  readonly verb: WriteKind | 'delete' | KeyVerb;
  /** The path, or the key id; null where the verb has none. */
  readonly path: string | null;
  /** The generation that the KBS had when it was read; 0 for key stores. */
  readonly generation: number;
  readonly run: string | null;
  readonly at: Instant;
  readonly answeredAt: Instant | null;
  readonly answer: Answer | null;
}

/** A guest's attestation, as the proxy saw it. */
export interface Handshake {
  readonly id: number;
  readonly at: Instant;
  readonly address: string;
  /** The EAR, as the KBS returned it. */
  readonly token: string;
  /** RFC 7638 thumbprint of the TEE public key in the token. */
  readonly teeKey: string;
}

/** One GET of a key, as the proxy saw it. */
export interface Fetch {
  readonly id: number;
  readonly kbs: string;
  readonly path: KeyPath;
  readonly at: Instant;
  readonly address: string;
  /** `released`: the KBS answered 200. `refused`: by whom is in `type`. */
  readonly decision: 'released' | 'refused';
  readonly type: string | null;
  readonly handshake: Handshake | null;
}

/** The machine behind a pod, from its start to its next restart. */
export interface Boot {
  readonly cluster: string;
  readonly podUid: string;
  readonly containerId: string;
  readonly pod: string;
  readonly address: string;
  readonly startedAt: Instant;
}
