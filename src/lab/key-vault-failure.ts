import type { VaultRefusal } from './key-states.ts';

/** An error as Key Vault answers it. */
export interface VaultFailure extends Error {
  readonly status: number;
  readonly code: string;
  /** What it is more exactly: `innererror.code`; null where it says no more. */
  readonly inner: string | null;
}

/** Makes one. */
export function vaultFailure(status: number, code: string, message: string, inner: string | null = null): VaultFailure {
  return Object.assign(new Error(message), { name: 'VaultFailure', status, code, inner });
}

/** Whether something thrown is meant for the client. */
export function isVaultFailure(thrown: unknown): thrown is VaultFailure {
  return thrown instanceof Error && thrown.name === 'VaultFailure';
}

/** A request that the service does not take. */
export function badParameter(message: string): VaultFailure {
  return vaultFailure(400, 'BadParameter', message);
}

/** The error of a key that is in no state for an operation. */
export function stateFailure(refusal: VaultRefusal, operation: string, name: string): VaultFailure {
  switch (refusal) {
    case 'KeyDisabled':
      return vaultFailure(403, 'Forbidden', `Operation ${operation} is not allowed on a disabled key.`, refusal);
    case 'KeyNotFound':
      return vaultFailure(404, refusal, `A key with (name/id) ${name} was not found in this key vault.`);
    case 'ObjectIsDeletedButRecoverable':
      return vaultFailure(409, 'Conflict', `Key ${name} is currently in a deleted but recoverable state, and its name cannot be reused.`, refusal);
    case 'ObjectIsBeingDeleted':
      return vaultFailure(409, 'Conflict', `Key ${name} is currently being deleted or recovered.`, refusal);
  }
}
