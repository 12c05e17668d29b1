/**
 * The ports: every system that we do not own (our memory of what was sent to them: `ledger.ts`).
 *
 * An adapter throws a `Fault` and nothing else. It is opened with the database's clock. Where a
 * write could land late, the port takes no value but a question (`Read`, `mine`), which the adapter
 * asks at the one right moment: after its credential is made, right before it sends once.
 */
import type { Digest } from './digest.ts';
import type { ReleaseDocument, TargetDocument } from './domain/documents/release.ts';
import type { Json } from './domain/json.ts';
import type { Answer, Want, Wrapped, WriteKind } from './domain/kbs.ts';
import type { KeyPath } from './domain/paths.ts';
import type { Reason } from './domain/reasons.ts';
import type { Release, Revocation } from './domain/release.ts';
import type { MoveWindow } from './domain/windows.ts';
import type { Instant } from './instant.ts';
import type { Secret } from './secret.ts';

/** Everything outside, by port: what a step may touch. A command opens the adapters and puts them in this record. */
export interface World {
  /** In every name and tag that we create. */
  readonly installation: string;
  readonly signer: Signer;
  readonly documents: Documents;
  readonly weights: Weights;
  /** Each throws Fault('NotConfigured') for a name that the configuration does not have. */
  readonly keyStore: (name: string) => KeyStore;
  readonly broker: (name: string) => KeyBroker;
  readonly cluster: (name: string) => Cluster;
}

/** The database's clock. There is no other. */
export type Clock = () => Promise<Instant>;

/** Leave to send once. The adapter reports the reply through it; what was never answered stays unanswered in `sends`. */
export interface Permit<T> {
  readonly value: T;
  readonly answered: (answer: Answer) => Promise<void>;
}

/** ONE transaction: the claim is still mine, the generation, the value, and its row in `sends`. null: fenced, or no longer wanted. */
export type Read<T> = () => Promise<Permit<T> | null>;

/** Whether the run is still its claimer's, read from the database now. */
export type Mine = () => Promise<boolean>;

/** Signs receipts' heads and the rows of `resources`. */
export interface Signer {
  readonly publicKeyPem: string;
  /** Base64. Throws Fault. */
  readonly sign: (bytes: Buffer) => Promise<string>;
  readonly verify: (bytes: Buffer, signature: string) => boolean;
}

/** What Git approved, asked anew. */
export interface Documents {
  /** Verifies the release's stored bytes and bundles again, under the trust version of its acceptance. null: they hold. */
  readonly signedStill: (release: Release) => Promise<{ readonly reason: Reason; readonly about: string } | null>;
  /** The signed revocations at the branch's present tip, read from Git and not from rows. Throws Fault where Git does not answer. */
  readonly revocations: () => Promise<readonly Revocation[]>;
  /** Whether a revocation was accepted: then what it touches is in the rows. */
  readonly isTakenIn: (digest: Digest) => Promise<boolean>;
}

// ---------------------------------------------------------------- key stores

/** NIST SP 800-57 part 1 §7. */
export type KeyState = 'active' | 'suspended' | 'deactivated' | 'compromised' | 'destroyed';

/** A key as its store shows it. */
export interface StoredKey {
  readonly keyId: string;
  readonly state: KeyState;
  /** Its destruction is scheduled, and when it is gone for good (null: the store does not say); until then it can be called back. null: nothing is. */
  readonly destruction: { readonly at: Instant | null } | null;
}

/** A write to a key store, as the ledger allows it. */
export interface KeyOrder {
  /** The sealing's rotation: tagged on a key that is created. */
  readonly rotation: string;
  /** Which key; null for `create`. */
  readonly keyId: string | null;
}

/** A KMS or HSM (`facts` of its kind: README of the adapter). */
export interface KeyStore {
  readonly name: string;
  /** How long decryption must have been refused before "disabled" is said. Seconds. */
  readonly disabledProofSeconds: number;
  /** Keys tagged with this installation and this rotation. Listings lag: a key just made may be missing. */
  readonly find: (rotation: string) => Promise<readonly StoredKey[]>;
  /** null: no such key, or none any more. */
  readonly describe: (keyId: string) => Promise<StoredKey | null>;
  /** Makes one key, tagged with installation and rotation; `answer.detail.keyId` is its id. Sent once, never retried underneath. */
  readonly create: (read: Read<KeyOrder>) => Promise<void>;
  /** Reversible. */
  readonly disable: (read: Read<KeyOrder>) => Promise<void>;
  readonly enable: (read: Read<KeyOrder>) => Promise<void>;
  /** Irreversible once the store's own waiting time is over; until then an operator of the store can call the key back, disabled. */
  readonly scheduleDestruction: (read: Read<KeyOrder>) => Promise<void>;
  /** Leaves nothing behind. */
  readonly encrypt: (keyId: string, plaintext: Secret, context: Readonly<Record<string, string>>) => Promise<Buffer>;
  /** `refused`: the key exists and is disabled (its own error and request id); any other failure is a Fault. */
  readonly decrypt: (
    keyId: string,
    ciphertext: Buffer,
    context: Readonly<Record<string, string>>,
  ) => Promise<{ readonly kind: 'opened'; readonly plaintext: Secret } | { readonly kind: 'refused'; readonly answer: Answer }>;
}

// ---------------------------------------------------------------- the key broker

/** What our own KBS client presents. */
export interface ProberEvidence {
  readonly tee: 'sample';
  /** The sample verifier's one measurement. */
  readonly svn: string;
  /** Init-data as TOML; null: none. */
  readonly initData: string | null;
}

/** A Trustee KBS. Order in every write: clock, token, read, send once; within a second of `exp` it does not send and starts again. */
export interface KeyBroker {
  readonly name: string;
  /** First segment of every path that we write. */
  readonly repository: string;
  /** The name that guests use: the proxy's. */
  readonly publicUrl: string;
  /** PEM of the CAs that the attestation service's token signer chains to. */
  readonly attestationSigners: readonly string[];
  /** W by kind of write: after it no write whose token was made earlier can land. Seconds. */
  readonly lateWriteSeconds: Readonly<Record<WriteKind, number>>;
  readonly publishPolicy: (read: Read<Want>) => Promise<void>;
  readonly publishReferenceValues: (read: Read<Want>) => Promise<void>;
  /** `unwrap` is called between read and send. */
  readonly putResource: (read: Read<Wrapped>, unwrap: (wrapped: Wrapped) => Promise<Secret>) => Promise<void>;
  readonly deleteResource: (read: Read<KeyPath>) => Promise<void>;
  /** null: KBS has no value of that name. */
  readonly referenceValue: (name: string) => Promise<Json | null>;
  /** An attested read by our prober, at the broker's own address or at the proxy's: one answer a replica. Status 200 where the bytes were released. */
  readonly ask: (path: KeyPath, as: ProberEvidence, at: 'broker' | 'proxy') => Promise<readonly Answer[]>;
}

// ---------------------------------------------------------------- clusters

/** Which object. */
export type TargetRef = Pick<TargetDocument, 'cluster' | 'namespace' | 'apiVersion' | 'kind' | 'name'>;

/** What to set: a field of the object by its pointer (RFC 6901, list elements as `name=<name>`). */
export interface Change {
  /** Pointer → text. A missing last segment of a map is added; anything else missing is refused. */
  readonly fields: Readonly<Record<string, string>>;
  /** The same for whole numbers. */
  readonly numbers?: Readonly<Record<string, number>>;
  /** Annotations of the object itself, always added. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Annotations of the pod template, always added. */
  readonly templateAnnotations: Readonly<Record<string, string>>;
}

/** A workload object as it stands. */
export interface WorkloadObject {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation: number;
  readonly annotations: Readonly<Record<string, string>>;
  /** The whole object, as the API gave it. */
  readonly object: Json;
  /** `metadata.managedFields`. */
  readonly managers: readonly { readonly manager: string; readonly operation: string; readonly fields: Json }[];
  /** Replicas wanted by its spec. */
  readonly replicas: number;
}

/** A pod, in any phase. */
export interface Pod {
  readonly uid: string;
  readonly name: string;
  readonly phase: string;
  /** Marked for deletion: still counts. */
  readonly terminating: boolean;
  readonly ready: boolean;
  readonly hostNetwork: boolean;
  /** null: none yet. */
  readonly address: string | null;
  readonly annotations: Readonly<Record<string, string>>;
  /** The container that a boot is named by: the one started last. null: none has started. */
  readonly containerId: string | null;
  /** When the first of its containers started, or the last one that was restarted. */
  readonly startedAt: Instant | null;
  /** Every container's image as its spec says. */
  readonly images: readonly string[];
}

/** A Kubernetes cluster, somebody else's: it can lie about pods and make a rotation wait; it cannot obtain a key. */
export interface Cluster {
  readonly name: string;
  /** How far its nodes' clocks may stand from the database's. Seconds. */
  readonly clockBoundSeconds: number;
  /** When its pods may be moved; none: at any time. */
  readonly windows: readonly MoveWindow[];
  /** null: no such object. */
  readonly object: (target: TargetRef) => Promise<WorkloadObject | null>;
  /** Reads the object, asks `mine`, then patches once with the `resourceVersion` that was read. Fault('Conflict') where it moved; nothing is sent where `mine` says no. */
  readonly patch: (target: TargetRef, change: Change, mine: Mine) => Promise<void>;
  /** The same patch as a dry run with strict field validation: the object as it would be. Fault('PreflightFailed') where it is refused. */
  readonly rehearse: (target: TargetRef, change: Change) => Promise<WorkloadObject>;
  /** Asks `mine`, then tells that very pod to go, within its disruption budget and grace period. One that is gone is no error. Fault('Throttled') where its budget says not yet. */
  readonly evict: (target: TargetRef, pod: Pick<Pod, 'name' | 'uid'>, mine: Mine) => Promise<void>;
  /** Every pod that the object's selector matches, listed anew, in every phase. */
  readonly pods: (target: TargetRef) => Promise<readonly Pod[]>;
}

// ---------------------------------------------------------------- weights

/** What is sealed: a folder of plaintext, or an older ciphertext of ours, which is opened in the same pass. */
export type SealSource =
  | { readonly kind: 'plaintext'; readonly address: string }
  /** `prefix` as `SealOrder` has it. Where one store lacks a file, or has it torn, the next one is read. */
  | { readonly kind: 'ciphertext'; readonly stores: readonly string[]; readonly prefix: string };

/** Which weights to seal, and where to. */
export interface SealOrder {
  readonly source: SealSource;
  readonly plaintextManifest: Digest;
  readonly codec: ReleaseDocument['artifact']['codec'];
  readonly stores: readonly string[];
  /** Under each store: `<workload>/<rotation>`. */
  readonly prefix: string;
}

/** The keys of one sealing, as guests fetch them. */
export interface SealKeys {
  readonly seal: Secret;
  /** The key of the ciphertext that is opened; null for plaintext. */
  readonly open: Secret | null;
}

/** How far a sealing is: bytes of plaintext that lie sealed and verified, over all stores. They go back where a file turns out to be torn. */
export interface SealProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** A whole ciphertext in one store. */
export interface Ciphertext {
  /** SHA-256 over the sorted `<sha256>  <path>` lines of the sealed files. */
  readonly digest: Digest;
  readonly files: number;
  readonly sizeBytes: number;
}

/** The artifact stores. */
export interface Weights {
  /** `${artifact}` is made from it: the store's place as guests name it. */
  readonly guestAddress: (store: string) => string;
  /** Fresh bytes that guests will fetch as the key: for Tink the serialized RAW keyset around 32 random bytes, for KServe's JWE 32 that are no UTF-8. */
  readonly newKey: (codec: SealOrder['codec']) => Secret;
  /** Reads everything, opens it for a trial, checks it against the manifest. null: not whole. */
  readonly inspect: (order: SealOrder, store: string, key: Secret) => Promise<Ciphertext | null>;
  /**
   * Seals into every store, the manifest last; what is whole is left alone, and what a dead process left half written is verified and
   * gone on with where the source is ciphertext and neither side is JWE. Asks `mine` between files and stops where it says no. Calls `progress` about once a
   * second, also inside a file, one call at a time, and once at its end; what that throws is ignored, for it decides nothing.
   */
  readonly seal: (order: SealOrder, keys: SealKeys, mine: Mine, progress: (progress: SealProgress) => Promise<void>) => Promise<void>;
  /** Deletes a ciphertext of ours from a store: the sealed manifest first, so that what is left is never taken for whole. Asks `mine` first. Nothing there: done. */
  readonly remove: (store: string, prefix: string, mine: Mine) => Promise<void>;
  /** Whether anything of it is there. */
  readonly present: (store: string, prefix: string) => Promise<boolean>;
}
