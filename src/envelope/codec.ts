import { randomBytes } from 'node:crypto';
import { Secret } from '#src/secret.ts';
import { isJweKey, newJweKey } from './jwe.ts';
import { keyOf, keysetOf } from './keyset.ts';

/** How files are sealed: Tink's streaming AEAD (`segments.ts`), or KServe's compact JWE (`jwe.ts`). */
export type Codec = (typeof CODECS)[number];

/** All of them. */
export const CODECS = ['tink-aes256-gcm-hkdf-1mb', 'kserve-jwe'] as const;

/** What is meant where nothing is said. */
export const DEFAULT_CODEC: Codec = 'tink-aes256-gcm-hkdf-1mb';

/** Draws fresh bytes that guests will fetch as the key: for Tink a keyset around 32 random bytes, for JWE 32 random bytes themselves. */
export function newFetchedKey(codec: Codec): Secret {
  if (codec === 'kserve-jwe') return newJweKey();
  using key = new Secret(randomBytes(32));
  return keysetOf(key);
}

/** A key in the form that passes take, and what it opens. */
export interface OpenedKey extends Disposable {
  readonly codec: Codec;
  /** 32 bytes. */
  readonly key: Secret;
}

/**
 * What guests fetched, opened: its form tells the codec, so that nobody has to be told apart from the key. Strict: only what
 * `newFetchedKey` draws. Throws EnvelopeError `malformed`.
 */
export function openFetchedKey(fetched: Secret): OpenedKey {
  const bytes = fetched.reveal();
  const opened: Pick<OpenedKey, 'codec' | 'key'> = isJweKey(bytes)
    ? { codec: 'kserve-jwe', key: new Secret(Buffer.from(bytes)) }
    : { codec: DEFAULT_CODEC, key: keyOf(fetched) };
  return { ...opened, [Symbol.dispose]: () => opened.key[Symbol.dispose]() };
}
