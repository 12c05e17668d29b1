import type { Digest } from '../digest.ts';
import type { Instant } from '../instant.ts';
import type { ReleaseDocument } from './documents/release.ts';
import type { RevocationDocument } from './documents/trust.ts';
import type { Signature } from './signatures.ts';

/** What Git approved: a checked document. Only `verifyRelease` makes one (`domain/judge.ts`). */
export interface Release extends ReleaseDocument {
  /** SHA-256 of the document's exact bytes: its name. */
  readonly digest: Digest;
  /** The path in the repository. */
  readonly path: string;
  /** The people whose signatures counted. */
  readonly approvedBy: readonly string[];
  /** Their signatures: with which key or identity each was made. */
  readonly signatures: readonly Signature[];
  /** The trust version that it was judged under. */
  readonly trustVersion: number;
  /** Each guest's init-data, by the guest's name: the file's bytes as text (TOML), digest checked. */
  readonly initData: Readonly<Record<string, string>>;
}

/** A checked revocation. */
export interface Revocation extends RevocationDocument {
  readonly digest: Digest;
  readonly path: string;
  readonly approvedBy: readonly string[];
  readonly signatures: readonly Signature[];
}

/** Where a revision stands. *Withdrawn* and *revoked* are facts beside it. */
export type RevisionState = 'accepted' | 'live' | 'published' | 'serving' | 'closing' | 'retired';

/** The states in which a revision is wanted by its KBS (unless revoked). */
export const WANTED_STATES: readonly RevisionState[] = ['live', 'published', 'serving', 'closing'];

/** A workload's weights under one key epoch. */
export interface Sealing {
  readonly id: number;
  readonly workload: string;
  /** Counts per workload; never used twice. */
  readonly epoch: number;
  /** The rotation that made it: key and ciphertext are named after it. */
  readonly rotation: string;
  /** No revision that counts uses it any more: its key may be disabled. */
  readonly taken: boolean;
  /** Facts of create-key and encrypt-weights. */
  readonly facts: Facts;
  /** When create-key of its rotation was seen: from then on the key ages. null: not yet. */
  readonly createdAt: Instant | null;
  /** The sealing whose ciphertext it is re-encrypted from; null: from plaintext. */
  readonly source: SealingSource | null;
}

/** A sealing, as the one that is re-encrypted from it sees it. */
export interface SealingSource {
  readonly workload: string;
  readonly epoch: number;
  readonly rotation: string;
  readonly facts: Facts;
}

/** What steps recorded for later steps. Each name is set by one step of one workflow; a fact is never a secret. */
export interface Facts {
  /** create-key: the key store's own id of the key. */
  readonly keyId?: string;
  /** encrypt-weights: SHA-256 over the sorted `<sha256>  <path>` lines of the sealed files. Equal in every store. */
  readonly ciphertextDigest?: Digest;
  /** encrypt-weights: what the ciphertext opens to. */
  readonly plaintextManifest?: Digest;
  /** encrypt-weights: the artifact stores that have it. */
  readonly stores?: readonly string[];
  /** make-resource: SHA-256 of the stored row without its signature. */
  readonly resourceDigest?: Digest;
  /** patch-template: what was found of each target, by `<cluster>/<namespace>/<name>`. */
  readonly templates?: Readonly<Record<string, { readonly uid: string; readonly generation: number; readonly resourceVersion: string }>>;
  /** schedule-destruction: when the key is gone for good; null: its store does not say, or it was called back before anybody looked. */
  readonly destructionAt?: Instant | null;
  /** confirm-destroyed: what became of the key. */
  readonly destruction?: 'destroyed' | 'called-back';
  /** find-holders: the UIDs of the pods that may hold what was revoked, by the same key. */
  readonly holders?: Readonly<Record<string, readonly string[]>>;
  /** lift-revocation: by the rotation of each revision that was freed, the number of the path that it has from then on. */
  readonly reinstated?: Readonly<Record<string, number>>;
  /** move-pods: the boots that were counted, by the same key. */
  readonly boots?: Readonly<Record<string, readonly string[]>>;
}

/** A revision, and what its runs have recorded so far, folded from their receipts. */
export interface Known {
  /** The revision's own id. */
  readonly id: number;
  /** The id of its adopt run: what people call the rotation. */
  readonly rotation: string;
  readonly release: Release;
  readonly sealing: Sealing;
  /** Every serial that it has had, the present one last: an amendment changes settings, not the revision. The first is in its path. */
  readonly serials: readonly [number, ...number[]];
  /** The digest of the release that made it: in the context that its bytes are wrapped under. */
  readonly madeBy: Digest;
  /** `n` of its path: 0, raised by a reinstatement. */
  readonly pathNumber: number;
  readonly state: RevisionState;
  readonly withdrawn: boolean;
  readonly revoked: boolean;
  readonly facts: Facts;
  /** When each step's receipt that counts was written; `reopened` is there when it was reopened. */
  readonly at: Readonly<Record<string, Instant>>;
}

/** What tells where a revision's key stands, and who may have it: nothing of what its runs recorded. */
export type Placed = Pick<Known, 'rotation' | 'pathNumber' | 'release' | 'serials'> & { readonly sealing: Pick<Sealing, 'epoch'> };

/** `target` in the words of a log line and of facts: `<cluster>/<namespace>/<name>`. */
export function targetName(target: { readonly cluster: string; readonly namespace: string; readonly name: string }): string {
  return `${target.cluster}/${target.namespace}/${target.name}`;
}
