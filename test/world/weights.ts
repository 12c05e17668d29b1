import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { digestOf } from '#src/digest.ts';
import { Secret } from '#src/secret.ts';
import type { Weights } from '#src/world.ts';
import { done, type Network } from './hazards.ts';

/** The artifact stores of the test world: what is sealed in them, by `<store> <prefix>`. */
export interface TestWeights extends Weights {
  readonly sealed: () => readonly string[];
  /** Whether a key opens what a guest finds at this address. */
  readonly opens: (artifact: string, key: Buffer) => boolean;
}

/** One small file stands for the weights; it is really sealed, and really opened for a trial. */
export function openTestWeights(network: Network): TestWeights {
  const files = new Map<string, Buffer>();
  const guestAddress = (store: string) => `file:///${store}`;
  return {
    sealed: () => [...files.keys()],
    opens: (artifact, key) => {
      const [, store = '', prefix = ''] = /^file:\/\/\/([^/]+)\/(.+)\/$/.exec(artifact) ?? [];
      const bytes = files.get(`${store} ${prefix}`);
      return bytes !== undefined && openedWith(bytes, key) !== null;
    },
    guestAddress,
    newKey: () => new Secret(randomBytes(32)),
    inspect: async (order, store, key) => {
      const bytes = files.get(`${store} ${order.prefix}`);
      if (bytes === undefined || openedWith(bytes, key.reveal()) !== order.plaintextManifest) return null;
      return { digest: digestOf(bytes), files: 1, sizeBytes: bytes.length };
    },
    seal: async (order, key, mine) => {
      const missing = order.stores.filter((store) => openedWith(files.get(`${store} ${order.prefix}`), key.reveal()) === null);
      if (missing.length === 0 || !(await mine())) return;
      const bytes = sealedWith(order.plaintextManifest, key.reveal());
      const effect = () => {
        for (const store of missing) files.set(`${store} ${order.prefix}`, bytes);
        return done();
      };
      await network.send({ system: 'weights', verb: 'seal', what: order.prefix, effect, answered: async () => {}, landsUntil: () => null });
    },
  };
}

function sealedWith(text: string, key: Buffer): Buffer {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  return Buffer.concat([iv, cipher.update(text), cipher.final(), cipher.getAuthTag()]);
}

function openedWith(bytes: Buffer | undefined, key: Buffer): string | null {
  if (bytes === undefined) return null;
  const cipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12));
  cipher.setAuthTag(bytes.subarray(-16));
  try {
    return Buffer.concat([cipher.update(bytes.subarray(12, -16)), cipher.final()]).toString();
  } catch {
    return null;
  }
}
