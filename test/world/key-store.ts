import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { canonicalJson } from '#src/domain/json.ts';
import { Fault } from '#src/errors.ts';
import { type Instant, later } from '#src/instant.ts';
import { Secret } from '#src/secret.ts';
import type { Clock, KeyState, KeyStore } from '#src/world.ts';
import { done, type Network, refused } from './hazards.ts';

/** How hostile the key store is. */
export interface KeyStoreOptions {
  /** A key shows up in listings this long after it was made. Seconds. */
  readonly listingLagSeconds: number;
  /** A disabled key still decrypts for this long. Seconds. */
  readonly disableLagSeconds: number;
  readonly disabledProofSeconds: number;
  /** From the scheduling of a destruction until the key is gone. Days. */
  readonly destructionWindowDays: number;
}

interface Key {
  readonly keyId: string;
  readonly rotation: string;
  readonly bytes: Buffer;
  readonly madeAt: Instant;
  state: KeyState;
  disabledAt: Instant | null;
  destruction: { readonly at: Instant } | null;
}

/** The key store of the test world, and what it holds. */
export interface TestKeyStore extends KeyStore {
  /** Key ids by state, of one rotation or of all; those that are gone have no key any more. */
  readonly keys: (rotation?: string) => readonly { readonly keyId: string; readonly rotation: string; readonly state: KeyState }[];
  /** What an operator of the store does: the key comes back disabled. Throws where nothing is pending. */
  readonly callBack: (keyId: string) => void;
}

/** Real AES-256-GCM with the context as associated data; listings that lag; answers that the network loses. */
export function openTestKeyStore(name: string, network: Network, clock: Clock, options: KeyStoreOptions): TestKeyStore {
  const keys = new Map<string, Key>();
  const keyOf = (keyId: string): Key => {
    const key = keys.get(keyId);
    if (key === undefined) throw new Fault('NotFound', `${name}: no key ${keyId}`);
    return key;
  };
  /** What was due is gone: there is nothing left to ask. */
  const sweep = async (): Promise<Instant> => {
    const now = await clock();
    for (const { keyId, destruction } of keys.values()) if (destruction !== null && destruction.at <= now) keys.delete(keyId);
    return now;
  };
  const setState = (verb: 'disable' | 'enable', state: KeyState): KeyStore['disable'] => {
    return async (read) => {
      const permit = await read();
      if (permit === null) return;
      const { keyId } = permit.value;
      const effect = (at: Instant) => {
        const key = keyOf(keyId ?? '');
        if (key.destruction !== null) return refused(400, 'KMSInvalidStateException');
        key.state = state;
        key.disabledAt = state === 'active' ? null : at;
        return done();
      };
      await network.send({ system: name, verb, what: keyId ?? '', effect, answered: permit.answered, landsUntil: () => null });
    };
  };
  return {
    name,
    disabledProofSeconds: options.disabledProofSeconds,
    keys: (rotation) => [...keys.values()].filter((key) => rotation === undefined || key.rotation === rotation),
    callBack: (keyId) => {
      const key = keyOf(keyId);
      if (key.destruction === null) throw new Error(`${keyId} is not pending`);
      key.destruction = null;
    },
    find: async (rotation) => {
      const now = await sweep();
      return [...keys.values()].filter((key) => key.rotation === rotation && later(key.madeAt, options.listingLagSeconds) <= now);
    },
    describe: async (keyId) => {
      await sweep();
      return keys.get(keyId) ?? null;
    },
    create: async (read) => {
      const permit = await read();
      if (permit === null) return;
      const keyId = `key-${keys.size + 1}-${randomBytes(4).toString('hex')}`;
      const { rotation } = permit.value;
      const effect = (at: Instant) => {
        keys.set(keyId, { keyId, rotation, bytes: randomBytes(32), madeAt: at, state: 'active', disabledAt: null, destruction: null });
        return done({ keyId });
      };
      await network.send({ system: name, verb: 'create', what: rotation, effect, answered: permit.answered, landsUntil: () => null });
    },
    disable: setState('disable', 'deactivated'),
    enable: setState('enable', 'active'),
    scheduleDestruction: async (read) => {
      const permit = await read();
      if (permit === null) return;
      const { keyId } = permit.value;
      const effect = (at: Instant) => {
        const key = keyOf(keyId ?? '');
        if (key.destruction !== null) return refused(400, 'KMSInvalidStateException');
        key.state = 'deactivated';
        key.disabledAt ??= at;
        key.destruction = { at: later(at, options.destructionWindowDays * 86_400) };
        return done({ keyId: key.keyId });
      };
      await network.send({ system: name, verb: 'destroy', what: keyId ?? '', effect, answered: permit.answered, landsUntil: () => null });
    },
    encrypt: async (keyId, plaintext, context) => {
      const key = keyOf(keyId);
      if (key.state !== 'active') throw new Fault('KeyDisabled', `${name}: ${keyId} is disabled`);
      return sealed(key.bytes, plaintext.reveal(), context);
    },
    decrypt: async (keyId, ciphertext, context) => {
      const now = await sweep();
      const key = keyOf(keyId);
      const refuses = key.disabledAt !== null && later(key.disabledAt, options.disableLagSeconds) <= now;
      if (refuses) return { kind: 'refused', answer: refused(400, 'DisabledException') };
      const plaintext = opened(key.bytes, ciphertext, context);
      if (plaintext === null) throw new Fault('InvalidRequest', `${name} decrypt with ${keyId}: not sealed by it under this context`);
      return { kind: 'opened', plaintext: new Secret(plaintext) };
    },
  };
}

function sealed(key: Buffer, plaintext: Buffer, context: Readonly<Record<string, string>>): Buffer {
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(canonicalJson(context)));
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function opened(key: Buffer, bytes: Buffer, context: Readonly<Record<string, string>>): Buffer | null {
  const cipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12)).setAAD(Buffer.from(canonicalJson(context)));
  cipher.setAuthTag(bytes.subarray(-16));
  try {
    return Buffer.concat([cipher.update(bytes.subarray(12, -16)), cipher.final()]);
  } catch {
    return null;
  }
}
