import type { AccessToken, TokenCredential } from '@azure/identity';
import { Fault } from '#src/errors.ts';
import { type Reference, readReference } from '#src/reference.ts';

/** The SDK keeps a token until it expires; one that has expired already is asked for anew every time, and whoever keeps it fresh is heard. */
const NEVER_KEPT = 0;

/**
 * Where bearer tokens come from: the reference, or what the platform gives a service (environment, workload identity, managed identity).
 * Not the SDK's default chain: that one also tries the logins of developers' tools, which it starts as processes.
 */
export function openCredential(from: Reference | undefined): TokenCredential {
  if (from !== undefined) return { getToken: () => tokenIn(from) };
  let chain: Promise<TokenCredential> | null = null;
  return {
    getToken: async (scopes, options) => {
      chain ??= openChain();
      return (await chain).getToken(scopes, options);
    },
  };
}

async function tokenIn(from: Reference): Promise<AccessToken> {
  const where = 'file' in from ? from.file : from.env;
  using secret = await readReference(from).catch((cause: unknown) => {
    throw new Fault('Unauthenticated', `azure-key-vault read a token from ${where}: it is not there`, { cause });
  });
  return { token: secret.reveal().toString('utf8').trim(), expiresOnTimestamp: NEVER_KEPT };
}

/** Loaded only where it is used: the library is the heavier half of the SDK. */
async function openChain(): Promise<TokenCredential> {
  const { ChainedTokenCredential, EnvironmentCredential, ManagedIdentityCredential, WorkloadIdentityCredential } = await import('@azure/identity');
  // It throws where the platform injects no identity of a workload; the others say so when they are asked.
  const isWorkload = ['AZURE_CLIENT_ID', 'AZURE_TENANT_ID', 'AZURE_FEDERATED_TOKEN_FILE'].every((name) => (process.env[name] ?? '') !== '');
  const workload = isWorkload ? [new WorkloadIdentityCredential()] : [];
  const clientId = process.env.AZURE_CLIENT_ID;
  const managed = clientId === undefined || clientId === '' ? new ManagedIdentityCredential() : new ManagedIdentityCredential({ clientId });
  return new ChainedTokenCredential(new EnvironmentCredential(), ...workload, managed);
}
