import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { canonicalJson } from '#src/domain/json.ts';

/** In front of every ciphertext: the form of what follows. */
const FORM = 1;
const LENGTH_BYTES = 2;
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** The wrapping key of one ciphertext: AES-256. Bytes. */
export const WRAPPING_KEY_BYTES = 32;
/** RSA-4096 wraps to this. Bytes. */
const WRAPPED_MAX_BYTES = 512;

/** A ciphertext taken apart: the wrapping key as the vault's key wrapped it, and what is under it. */
export interface Parts {
  readonly wrappedKey: Buffer;
  readonly iv: Buffer;
  readonly tag: Buffer;
  readonly body: Buffer;
}

/** A new wrapping key. Whoever draws it wipes it. */
export function drawWrappingKey(): Buffer {
  return randomBytes(WRAPPING_KEY_BYTES);
}

/**
 * AES-256-GCM (NIST SP 800-38D) under the wrapping key, with the context as associated data (its RFC 8785 form, so that the order of
 * its pairs does not matter), behind the wrapping key as the vault wrapped it. One wrapping key seals once.
 */
export function seal(wrappingKey: Buffer, wrappedKey: Uint8Array, plaintext: Buffer, context: Readonly<Record<string, string>>): Buffer {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv('aes-256-gcm', wrappingKey, iv).setAAD(Buffer.from(canonicalJson(context)));
  const body = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  const head = Buffer.alloc(1 + LENGTH_BYTES);
  head.writeUInt8(FORM);
  head.writeUInt16BE(wrappedKey.length, 1);
  return Buffer.concat([head, wrappedKey, iv, cipher.getAuthTag(), body]);
}

/** Takes a ciphertext apart; null: it is none of ours. */
export function partsOf(ciphertext: Buffer): Parts | null {
  const head = 1 + LENGTH_BYTES;
  if (ciphertext.length < head || ciphertext[0] !== FORM) return null;
  const ivAt = head + ciphertext.readUInt16BE(1);
  const tagAt = ivAt + IV_BYTES;
  const bodyAt = tagAt + TAG_BYTES;
  if (ivAt === head || ivAt > head + WRAPPED_MAX_BYTES || bodyAt >= ciphertext.length) return null;
  return {
    wrappedKey: ciphertext.subarray(head, ivAt),
    iv: ciphertext.subarray(ivAt, tagAt),
    tag: ciphertext.subarray(tagAt, bodyAt),
    body: ciphertext.subarray(bodyAt),
  };
}

/** The plaintext; null: another key's, another context's, or changed. */
export function open(wrappingKey: Buffer, { iv, tag, body }: Parts, context: Readonly<Record<string, string>>): Buffer | null {
  const cipher = createDecipheriv('aes-256-gcm', wrappingKey, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(canonicalJson(context))).setAuthTag(tag);
  const plaintext = cipher.update(body);
  try {
    cipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0);
    return null;
  }
}
