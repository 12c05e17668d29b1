import { randomBytes } from 'node:crypto';
import {
  AES256_GCM_HKDF_1MB,
  cutOfCiphertext,
  cutOfPlaintext,
  headerBytesOf,
  headerOf,
  openSegment,
  type StreamingParameters,
  sealSegment,
  segmentInCiphertext,
  segmentInPlaintext,
  streamOf,
} from './segments.ts';

/** Seals bytes that fit in memory; for weights there is `tink.ts`. Throws EnvelopeError. */
export function sealMessage(plaintext: Buffer, key: Buffer, associatedData: Buffer, parameters: StreamingParameters = AES256_GCM_HKDF_1MB): Buffer {
  const cut = cutOfPlaintext(plaintext.length, parameters);
  const header = headerOf(randomBytes(headerBytesOf(parameters) - 1), parameters);
  const stream = streamOf(key, header, associatedData, parameters);
  const ciphertext = Buffer.alloc(cut.ciphertextBytes);
  header.copy(ciphertext);
  for (let index = 0; index < cut.segments; index += 1) {
    const from = segmentInPlaintext(cut, index, parameters);
    const to = segmentInCiphertext(cut, index, parameters);
    sealSegment(stream, index, index === cut.segments - 1, plaintext.subarray(from.at, from.at + from.bytes), ciphertext.subarray(to.at));
  }
  stream.key.fill(0);
  return ciphertext;
}

/** Opens bytes that fit in memory, all of them or none. Throws EnvelopeError. */
export function openMessage(ciphertext: Buffer, key: Buffer, associatedData: Buffer, parameters: StreamingParameters = AES256_GCM_HKDF_1MB): Buffer {
  const cut = cutOfCiphertext(ciphertext.length, parameters);
  const stream = streamOf(key, ciphertext.subarray(0, headerBytesOf(parameters)), associatedData, parameters);
  const plaintext = Buffer.alloc(cut.plaintextBytes);
  try {
    for (let index = 0; index < cut.segments; index += 1) {
      const from = segmentInCiphertext(cut, index, parameters);
      const to = segmentInPlaintext(cut, index, parameters);
      openSegment(stream, index, index === cut.segments - 1, ciphertext.subarray(from.at, from.at + from.bytes), plaintext.subarray(to.at));
    }
    return plaintext;
  } catch (error) {
    plaintext.fill(0);
    throw error;
  } finally {
    stream.key.fill(0);
  }
}
