/** The lab's Sigstore: an issuer of identities, a certificate authority with its log, a transparency log, a timestamp service, and the root that trusts them. */
import { createHash, type KeyObject } from 'node:crypto';
import { type FulcioTrouble, openLabFulcio } from './sigstore-fulcio.ts';
import { openLabIssuer } from './sigstore-issuer.ts';
import { openLabRekor } from './sigstore-rekor.ts';
import { openLabTimestamps } from './sigstore-timestamps.ts';

/** The running services, each on a port of its own on 127.0.0.1. */
export interface LabSigstore {
  /** The OpenID Connect issuer: its address is the issuer that certificates name. */
  readonly issuerUrl: string;
  readonly fulcioUrl: string;
  readonly rekorUrl: string;
  /** The whole address, as RFC 3161 clients want it. */
  readonly timestampUrl: string;
  /** Sigstore's trusted root, as JSON. */
  readonly trustedRoot: string;
  /** Asks the issuer for an identity token of this subject: an address, or a URI. */
  readonly identityToken: (subject: string) => Promise<string>;
  /** Lets the next certificate go wrong. */
  readonly trouble: (trouble: FulcioTrouble) => void;
  readonly close: () => Promise<void>;
}

/** Since when the lab's authorities are good: before any of its clocks. */
const START = '2020-01-01T00:00:00Z';

/** Opens all four. `clock`: milliseconds since 1970; this machine's otherwise. */
export async function openLabSigstore({ clock = async () => Date.now() }: { readonly clock?: () => Promise<number> } = {}): Promise<LabSigstore> {
  const issuer = await openLabIssuer(clock);
  const fulcio = await openLabFulcio(issuer.url, clock);
  const rekor = await openLabRekor(clock);
  const timestamps = await openLabTimestamps(clock);
  const trustedRoot = {
    mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
    tlogs: [logOf(rekor.url, rekor.publicKey)],
    certificateAuthorities: [authorityOf('LAB sigstore', fulcio.url, [fulcio.root])],
    ctlogs: [logOf(`${fulcio.url}/ctlog`, fulcio.logKey)],
    timestampAuthorities: [authorityOf('LAB timestamps', timestamps.url, timestamps.chain)],
  };
  return {
    ...{ issuerUrl: issuer.url, fulcioUrl: fulcio.url, rekorUrl: rekor.url, timestampUrl: `${timestamps.url}/api/v1/timestamp` },
    trustedRoot: `${JSON.stringify(trustedRoot, null, 2)}\n`,
    identityToken: (subject) => tokenFrom(issuer.url, subject),
    trouble: fulcio.trouble,
    close: async () => void (await Promise.all([issuer.close(), fulcio.close(), rekor.close(), timestamps.close()])),
  };
}

async function tokenFrom(issuerUrl: string, subject: string): Promise<string> {
  const answer = await fetch(`${issuerUrl}/token`, { method: 'POST', body: new URLSearchParams({ username: subject }) });
  const { id_token: token } = (await answer.json()) as { readonly id_token?: string };
  if (token === undefined) throw new Error(`the lab's issuer answered ${answer.status}`);
  return token;
}

function authorityOf(commonName: string, uri: string, chain: readonly Buffer[]): object {
  const certificates = chain.map((certificate) => ({ rawBytes: certificate.toString('base64') }));
  return { subject: { organization: 'LAB', commonName }, uri, certChain: { certificates }, validFor: { start: START } };
}

function logOf(baseUrl: string, key: KeyObject): object {
  const rawBytes = key.export({ format: 'der', type: 'spki' });
  const keyId = createHash('sha256').update(rawBytes).digest('base64');
  const publicKey = { rawBytes: rawBytes.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor: { start: START } };
  return { baseUrl, hashAlgorithm: 'SHA2_256', publicKey, logId: { keyId } };
}
