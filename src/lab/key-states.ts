/**
 * What key stores answer to an operation on a key in a state: the golden table that the lab's key stores are driven by. Written from the
 * vendors' own tables and from what was seen on live accounts, never from another emulator: the popular ones let a disabled key decrypt.
 */

/** `null`: carried out; otherwise the name of the error. One row an operation, one column a state. */
type StateTable<State extends string, Refusal extends string, Operation extends string> = Readonly<Record<Operation, Readonly<Record<State, Refusal | null>>>>;

/** States of a key in AWS KMS that the lab has. */
export type KmsState = 'Enabled' | 'Disabled' | 'PendingDeletion';
/** How AWS KMS refuses for a key's state. */
export type KmsRefusal = 'DisabledException' | 'KMSInvalidStateException';
type KmsOperation =
  | 'DescribeKey'
  | 'ListResourceTags'
  | 'Encrypt'
  | 'Decrypt'
  | 'GenerateDataKey'
  | 'GetPublicKey'
  | 'Sign'
  | 'DisableKey'
  | 'EnableKey'
  | 'ScheduleKeyDeletion'
  | 'CancelKeyDeletion'
  | 'CreateAlias';

const READ = { Enabled: null, Disabled: null, PendingDeletion: null } as const;
const USE = { Enabled: null, Disabled: 'DisabledException', PendingDeletion: 'KMSInvalidStateException' } as const;
const CHANGE = { Enabled: null, Disabled: null, PendingDeletion: 'KMSInvalidStateException' } as const;

/** AWS KMS, "Key states of AWS KMS keys" in its developer guide. Where that allows two names for a pending key, this is one of them. */
export const KMS_TABLE: StateTable<KmsState, KmsRefusal, KmsOperation> = {
  DescribeKey: READ,
  ListResourceTags: READ,
  Encrypt: USE,
  Decrypt: USE,
  GenerateDataKey: USE,
  GetPublicKey: USE,
  Sign: USE,
  DisableKey: CHANGE,
  EnableKey: CHANGE,
  ScheduleKeyDeletion: CHANGE,
  CancelKeyDeletion: { Enabled: 'KMSInvalidStateException', Disabled: 'KMSInvalidStateException', PendingDeletion: null },
  CreateAlias: CHANGE,
};

/** States of a key in Key Vault. `Moving`: on its way into or out of the deleted ones, and seen in neither place. */
export type VaultState = 'Enabled' | 'Disabled' | 'Deleted' | 'Moving';
/** How Key Vault refuses for a key's state: the innermost code of its error. */
export type VaultRefusal = 'KeyDisabled' | 'KeyNotFound' | 'ObjectIsDeletedButRecoverable' | 'ObjectIsBeingDeleted';
/** Operations of Key Vault that name a key. */
export type VaultOperation =
  | 'createKey'
  | 'getKey'
  | 'getKeyVersions'
  | 'updateKey'
  | 'deleteKey'
  | 'wrapKey'
  | 'encrypt'
  | 'verify'
  | 'unwrapKey'
  | 'decrypt'
  | 'sign'
  | 'getDeletedKey'
  | 'recoverDeletedKey'
  | 'purgeDeletedKey';

const STANDING = { Enabled: null, Disabled: null, Deleted: 'KeyNotFound', Moving: 'KeyNotFound' } as const;
const PRIVATE = { ...STANDING, Disabled: 'KeyDisabled' } as const;
const DELETED = { Enabled: 'KeyNotFound', Disabled: 'KeyNotFound', Deleted: null, Moving: 'KeyNotFound' } as const;

/**
 * Azure Key Vault. That a disabled key still wraps, encrypts and verifies is its own behaviour, seen on a live account
 * (Azure/azure-sdk-for-python issue 45342): only what needs the private key is refused. A disabled key is described all the same.
 */
export const VAULT_TABLE: StateTable<VaultState, VaultRefusal, VaultOperation> = {
  // A name that stands gets one more version.
  createKey: { Enabled: null, Disabled: null, Deleted: 'ObjectIsDeletedButRecoverable', Moving: 'ObjectIsBeingDeleted' },
  getKey: STANDING,
  getKeyVersions: STANDING,
  updateKey: STANDING,
  deleteKey: { ...STANDING, Moving: 'ObjectIsBeingDeleted' },
  wrapKey: STANDING,
  encrypt: STANDING,
  verify: STANDING,
  unwrapKey: PRIVATE,
  decrypt: PRIVATE,
  sign: PRIVATE,
  getDeletedKey: DELETED,
  recoverDeletedKey: { ...DELETED, Moving: 'ObjectIsBeingDeleted' },
  purgeDeletedKey: { ...DELETED, Moving: 'ObjectIsBeingDeleted' },
};
