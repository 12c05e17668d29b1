/**
 * Why something could not be sealed or opened.
 *
 * - `not-authentic`: a tag does not fit: another key, other associated data, or bytes that were changed, swapped or cut at a segment's end.
 * - `truncated`: fewer bytes than the format needs.
 * - `malformed`: not of the form at all (header, keyset, manifest).
 * - `changed`: the plaintext is not the one that was asked for, or changed while it was read.
 * - `unsafe-path`: a path that leaves its folder, or that this layout cannot carry.
 * - `too-large`: a limit of this room was passed.
 * - `unfit`: the codec cannot carry this file; another one can.
 */
export type EnvelopeErrorKind = 'not-authentic' | 'truncated' | 'malformed' | 'changed' | 'unsafe-path' | 'too-large' | 'unfit';

/** An Error that says what kind of no it is; compare `kind`, never the message. Errors of the file system are thrown as they are. */
export interface EnvelopeError extends Error {
  readonly kind: EnvelopeErrorKind;
  /** The file that it is about, as the layout names it; null where it is about none. */
  readonly path: string | null;
}

/** Makes one. The message never holds a secret. */
export function envelopeError(kind: EnvelopeErrorKind, message: string, path: string | null = null): EnvelopeError {
  return Object.assign(new Error(message), { name: 'EnvelopeError', kind, path });
}

/** Whether something thrown is an EnvelopeError. */
export function isEnvelopeError(thrown: unknown): thrown is EnvelopeError {
  return thrown instanceof Error && thrown.name === 'EnvelopeError' && 'kind' in thrown;
}
