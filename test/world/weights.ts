import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '#src/digest.ts';
import { Fault } from '#src/errors.ts';
import { Secret } from '#src/secret.ts';
import type { SealSource, Weights } from '#src/world.ts';
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
    present: async (store, prefix) => files.has(`${store} ${prefix}`),
    remove: async (store, prefix, mine) => {
      if (!(await mine())) return;
      const effect = () => {
        files.delete(`${store} ${prefix}`);
        return done();
      };
      await network.send({ system: 'weights', verb: 'remove', what: `${store} ${prefix}`, effect, answered: async () => {}, landsUntil: () => null });
    },
    newKey: () => new Secret(randomBytes(32)),
    inspect: async (order, store, key) => {
      const bytes = files.get(`${store} ${order.prefix}`);
      if (bytes === undefined || openedWith(bytes, key.reveal()) !== order.plaintextManifest) return null;
      return { digest: digestOf(bytes), files: 1, sizeBytes: bytes.length };
    },
    seal: async ({ source, plaintextManifest, stores, prefix }, keys, mine, progress) => {
      const missing = stores.filter((store) => openedWith(files.get(`${store} ${prefix}`), keys.seal.reveal()) === null);
      if (missing.length > 0) {
        if (source.kind === 'ciphertext') openOld(files, source, plaintextManifest, keys.open);
        if (!(await mine())) return;
        const bytes = sealedWith(plaintextManifest, keys.seal.reveal());
        const effect = () => {
          for (const store of missing) files.set(`${store} ${prefix}`, bytes);
          return done();
        };
        await network.send({ system: 'weights', verb: 'seal', what: prefix, effect, answered: async () => {}, landsUntil: () => null });
      }
      await progress({ doneBytes: stores.length, totalBytes: stores.length }).catch(() => {});
    },
  };
}

/** Throws where no store has an older ciphertext that opens to what was approved. */
function openOld(files: ReadonlyMap<string, Buffer>, source: Extract<SealSource, { kind: 'ciphertext' }>, approved: Digest, open: Secret | null): void {
  if (open === null) throw new Fault('InvalidRequest', `test weights: ${source.prefix} has no key to open it with`);
  const found = source.stores.flatMap((store) => files.get(`${store} ${source.prefix}`) ?? []);
  if (found.length === 0) throw new Fault('CiphertextTorn', `test weights: ${source.prefix} is in no store`);
  if (!found.some((bytes) => openedWith(bytes, open.reveal()) === approved)) throw new Fault('WeightsChanged', `test weights: ${source.prefix} is another one`);
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
