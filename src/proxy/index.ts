import type pg from 'pg';
import type { Log } from '#src/log.ts';
import type { Metrics } from '#src/metrics.ts';
import { openGuests } from './attested.ts';
import { openDenyList } from './deny-list.ts';
import { exchanging } from './exchange.ts';
import { openRecorder } from './recorder.ts';
import { openServer, type ServerOptions } from './server.ts';
import { openUpstream, type UpstreamOptions } from './upstream.ts';

/** What a proxy is opened with. */
export interface ProxyOptions extends Omit<ServerOptions, 'onError'> {
  /** The key broker that it stands before, `name` as in the configuration. */
  readonly kbs: UpstreamOptions & { readonly name: string };
  /** No word from the database for this long: every key is refused. Seconds. */
  readonly denyListStaleSeconds: number;
  /** Of our database; one session of it listens, four write at most. */
  readonly pool: pg.Pool;
  /** Of this process, never used again: two under one id would answer for each other. */
  readonly id: string;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** A proxy at work. */
export interface KbsProxy {
  readonly url: string;
  /** Whether keys pass: the deny-list was confirmed in time. */
  readonly isOpen: () => boolean;
  /** Lets open exchanges end (10 seconds at most), writes what is open, and signs off. */
  readonly close: () => Promise<void>;
}

/**
 * Opens the proxy that owns a KBS's public name (DESIGN §7). It listens once the deny-list is loaded
 * and acknowledged. Throws Fault where the database does not answer or the address is in use.
 */
export async function openProxy(options: ProxyOptions): Promise<KbsProxy> {
  const { kbs, pool, id, log, metrics } = options;
  const denyList = await openDenyList({
    pool,
    kbs: kbs.name,
    proxy: id,
    staleSeconds: options.denyListStaleSeconds,
    onConfirmed: () => metrics.denyListAt.set({ kbs: kbs.name }, Date.now() / 1000),
    onError: (error) => log.warn({ kbs: kbs.name, error }, 'the deny-list could not be confirmed'),
  });
  const recorder = openRecorder(pool, (error) => log.warn({ kbs: kbs.name, error }, 'a refusal could not be recorded'));
  const upstream = openUpstream(kbs);
  const parts = { kbs: kbs.name, proxy: id, upstream, denyList, recorder, guests: openGuests(pool, kbs.name), log, metrics };
  const closeRest = async (): Promise<void> => {
    await recorder.close();
    // Only now does nobody get an answer any more, and nobody need wait for this proxy.
    await denyList.close();
    await upstream.close();
  };
  try {
    const onError = (error: unknown): void => log.error({ error }, 'the certificate could not be read; the one before is used');
    const exchange = exchanging(parts);
    const server = await openServer({ ...options, onError }, (request, response, address) => void exchange(request, response, address));
    return {
      url: server.url,
      isOpen: denyList.isConfirmed,
      close: async () => {
        await server.close();
        await closeRest();
      },
    };
  } catch (thrown) {
    await closeRest();
    throw thrown;
  }
}
