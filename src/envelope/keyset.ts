import { Secret } from '#src/secret.ts';
import { envelopeError } from './envelope-error.ts';
import { AES256_GCM_HKDF_1MB } from './segments.ts';

/**
 * The bytes that guests fetch as the key: a serialized Tink keyset (`google.crypto.tink.Keyset`, proto3) with one enabled key of
 * type AesGcmHkdfStreamingKey and output prefix RAW, so that every Tink reads it without a line of ours.
 *
 * It is written by hand because it has one form: everything before and after the 32 bytes is constant.
 */

const KEY_BYTES = AES256_GCM_HKDF_1MB.keyBytes;
/** A RAW key's id marks nothing in the ciphertext. One number for all, so that the same key always gives the same bytes. */
const KEY_ID = 1;
const VARINT = 0;
const BYTES = 2;

/** A field whose number and value take one byte each. */
function varint(field: number, value: number): Buffer {
  return Buffer.of((field << 3) | VARINT, value);
}

/** A field of bytes shorter than 128: its length takes one byte. */
function delimited(field: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.of((field << 3) | BYTES, value.length), value]);
}

/** The whole message around a key of zeros. */
function template(): Buffer {
  // AesGcmHkdfStreamingParams: ciphertext_segment_size = 1048576 (a varint of three bytes), derived_key_size = 32, hkdf_hash_type = SHA256.
  const parameters = Buffer.concat([Buffer.of((1 << 3) | VARINT, 0x80, 0x80, 0x40), varint(2, AES256_GCM_HKDF_1MB.derivedKeyBytes), varint(3, 3)]);
  const streamingKey = Buffer.concat([delimited(2, parameters), delimited(3, Buffer.alloc(KEY_BYTES))]);
  const typeUrl = delimited(1, Buffer.from('type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey'));
  const keyData = Buffer.concat([typeUrl, delimited(2, streamingKey), varint(3, 1)]); // key_material_type = SYMMETRIC
  const key = Buffer.concat([delimited(1, keyData), varint(2, 1), varint(3, KEY_ID), varint(4, 3)]); // ENABLED, RAW
  return Buffer.concat([varint(1, KEY_ID), delimited(2, key)]);
}

const TEMPLATE = template();
/** Where the 32 bytes stand: behind their field's tag and length. */
const KEY_AT = TEMPLATE.indexOf(Buffer.of((3 << 3) | BYTES, KEY_BYTES, 0, 0)) + 2;

/** The keyset around a key of 32 bytes. Throws EnvelopeError `malformed` for another length. */
export function keysetOf(key: Secret): Secret {
  const bytes = key.reveal();
  if (bytes.length !== KEY_BYTES) throw envelopeError('malformed', `the key has ${bytes.length} bytes, not ${KEY_BYTES}`);
  const keyset = Buffer.from(TEMPLATE);
  bytes.copy(keyset, KEY_AT);
  return new Secret(keyset);
}

/** The key inside a keyset. Strict: only what `keysetOf` writes. Throws EnvelopeError `malformed` for anything else. */
export function keyOf(keyset: Secret): Secret {
  const bytes = keyset.reveal();
  const same = bytes.length === TEMPLATE.length && bytes.subarray(0, KEY_AT).equals(TEMPLATE.subarray(0, KEY_AT));
  if (!same || !bytes.subarray(KEY_AT + KEY_BYTES).equals(TEMPLATE.subarray(KEY_AT + KEY_BYTES))) {
    throw envelopeError('malformed', 'not a keyset of one raw AES256_GCM_HKDF_1MB key');
  }
  return new Secret(Buffer.from(bytes.subarray(KEY_AT, KEY_AT + KEY_BYTES)));
}
