/**
 * A KBS for the lab: the far side of Trustee's wire, written from recordings of a real one (trustee
 * 78962cd…), on 127.0.0.1 alone and with `sample` evidence alone. Handshakes, attestation results and
 * released keys are real: ES256 tokens with their chain, JWEs to the guest's key, admin tokens that
 * expire by the lab's clock.
 *
 * What it is not: it has no Rego engine (`kbs-policy.ts`), its appraisal policies are the shipped ones,
 * and it locks nothing and tears nothing, as Trustee on Postgres.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { LabIssuer, LabRole } from './kbs-admin.ts';
import { type LabFaults, openFaults } from './kbs-faults.ts';
import { openMetrics } from './kbs-metrics.ts';
import { DEFAULT_POLICY } from './kbs-policy.ts';
import { type LabStore, openStore } from './kbs-store.ts';
import { type LabTokenSigner, openTokens } from './kbs-token.ts';
import { type LabBroker, perform } from './kbs-verbs.ts';
import { empty, type LabAnswer, type LabRequest, readBody, reply, sessionOf, TOO_LARGE } from './kbs-wire.ts';

/** actix takes a head of this size; an attestation token of many GPUs does not fit. Bytes. */
const HEAD_MAX_BYTES = 128 * 1024;
const PREFIX = '/kbs/v0/';

/** What a lab KBS is opened with. */
export interface LabKbsOptions {
  /** Where it keeps everything over a restart; null: in memory, gone at a restart as Trustee's `Memory` storage is. */
  readonly folder: string | null;
  /** The lab's one clock. Milliseconds since 1970. */
  readonly clock: () => Promise<number>;
  /** What is allowed after `exp`, of admin tokens and attestation tokens alike. Trustee's is 60. */
  readonly tokenLeewaySeconds: number;
  /** Whose admin tokens are taken: PEM keys, or keys with the issuer and audience that their tokens must name. */
  readonly adminPublicKeys: readonly (string | LabIssuer)[];
  /** `regex_acl`: each rule matched with the raw URI. Every expression starts with `^/kbs` and ends with `$`. */
  readonly roles: readonly { readonly role: string; readonly allowedEndpoints: string }[];
  /** null: an ephemeral key, and any key in a token's header is believed (`insecure_header_jwk`). */
  readonly tokenSigner: LabTokenSigner | null;
  /** `authorization_mode`; authenticated where it is not said. */
  readonly adminMode?: 'authenticated' | 'deny-all' | 'insecure-allow-all';
  /** Minutes a session lives; 5, as Trustee's. */
  readonly sessionMinutes?: number;
  /** Minutes a token lives; 5, as Trustee's. */
  readonly tokenMinutes?: number;
  /** A port of 127.0.0.1; any free one where it is not said. */
  readonly port?: number;
}

/** A running lab KBS. */
export interface LabKbs {
  readonly url: string;
  /** What goes wrong on purpose. */
  readonly faults: LabFaults;
  /** Stops and starts it at the same address: with a folder it finds what it had, otherwise nothing but the default policy. */
  readonly restart: (options?: { readonly wipe: boolean }) => void;
  /** The bytes at a path, as an administrator of its storage would see them; null: none. */
  readonly stored: (path: string) => Buffer | null;
  /** The policy's text. */
  readonly policy: () => string;
  readonly close: () => Promise<void>;
}

/** Starts a lab KBS on 127.0.0.1. Throws RangeError for a role that is not anchored. */
export async function openLabKbs(options: LabKbsOptions): Promise<LabKbs> {
  const store = openStore(options.folder, DEFAULT_POLICY);
  const metrics = openMetrics();
  const broker = brokerOf(options, store, metrics);
  const faults = openFaults(async (request) => perform(broker, request, await options.clock()));
  const server = createServer({ maxHeaderSize: HEAD_MAX_BYTES }, (request, response) => {
    answer(broker, options, faults, request)
      .then((answered) => (answered === null ? response.destroy() : reply(response, answered)))
      .catch(() => failed(response));
  });
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return {
    url: `http://127.0.0.1:${port}`,
    faults: faults.switches,
    restart: ({ wipe } = { wipe: false }) => {
      server.closeAllConnections();
      metrics.reset();
      if (wipe) store.wipe();
      store.reload();
    },
    stored: (path) => store.resources.get(path) ?? null,
    policy: () => store.policy.text,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

function brokerOf(options: LabKbsOptions, store: LabStore, metrics: LabBroker['metrics']): LabBroker {
  const leewaySeconds = options.tokenLeewaySeconds;
  return {
    admin: {
      mode: options.adminMode ?? 'authenticated',
      issuers: options.adminPublicKeys.map((key) => (typeof key === 'string' ? { publicKeyPem: key } : key)),
      roles: options.roles.map(roleOf),
      leewaySeconds,
    },
    store,
    metrics,
    tokens: openTokens(options.tokenSigner, leewaySeconds),
    sessionMinutes: options.sessionMinutes ?? 5,
    tokenMinutes: options.tokenMinutes ?? 5,
  };
}

function roleOf({ role, allowedEndpoints }: LabKbsOptions['roles'][number]): LabRole {
  if (!allowedEndpoints.startsWith('^/kbs') || !allowedEndpoints.endsWith('$')) throw new RangeError('Admin Role regex must be anchored.');
  return { role, allowedEndpoints: new RegExp(allowedEndpoints) };
}

/** The answer to a request; null: the connection is closed without one. */
async function answer(broker: LabBroker, options: LabKbsOptions, faults: ReturnType<typeof openFaults>, request: IncomingMessage): Promise<LabAnswer | null> {
  const { method = '', url = '' } = request;
  const path = url.split('?')[0] ?? '';
  if (path === '/healthz') return empty(method === 'GET' ? 200 : 404);
  if (path === '/metrics') return method === 'GET' ? { status: 200, headers: {}, body: Buffer.from(broker.metrics.text()) } : empty(405);
  if (!path.startsWith(PREFIX)) return empty(404);
  if (!['GET', 'POST', 'PUT', 'DELETE'].includes(method)) return empty(405);
  const body = await readBody(request);
  if (body === null) return TOO_LARGE;
  const segments = decoded(path.slice(PREFIX.length));
  if (segments === null) return empty(404);
  const { authorization = null, cookie } = request.headers;
  const read: LabRequest = { method, uri: url, segments, authorization, session: sessionOf(cookie), body };
  return faults.pass(read, async () => perform(broker, read, await options.clock()));
}

function decoded(path: string): readonly string[] | null {
  try {
    return decodeURIComponent(path).split('/');
  } catch {
    return null;
  }
}

/** The clock did not answer, most likely because the lab is stopping: a KBS that fails closes the connection. */
function failed(response: ServerResponse): void {
  response.destroy();
}
