import { Fault } from '#src/errors.ts';

/** gitprotocol-common: four digits, and what they count. */
const LENGTH_DIGITS = 4;
/** The longest that may be written. */
const LINE_MAX_BYTES = 65_520;

/** A pkt-line: its content, or one of the marks between sections. */
export type Line = Buffer | 'flush' | 'delimiter' | 'end';

/** Ends a request, or a section of it. */
export const FLUSH = '0000';
/** Parts a command's capabilities from its arguments. */
export const DELIMITER = '0001';

/** Text as a pkt-line. Throws Error beyond 65,516 bytes. */
export function line(text: string): string {
  const length = Buffer.byteLength(text) + LENGTH_DIGITS;
  if (length > LINE_MAX_BYTES) throw new Error('a pkt-line is too long');
  return `${length.toString(16).padStart(LENGTH_DIGITS, '0')}${text}`;
}

/** The pkt-lines of an answer (gitprotocol-common), as they come. Throws Fault('UnexpectedAnswer') for what is none, or is cut off. */
export function* linesOf(bytes: Buffer, what: string): Generator<Line, void, undefined> {
  let at = 0;
  while (at < bytes.length) {
    const digits = bytes.toString('latin1', at, at + LENGTH_DIGITS);
    const length = /^[0-9a-f]{4}$/i.test(digits) ? Number.parseInt(digits, 16) : -1;
    if (length < 0 || length === 3) throw new Fault('UnexpectedAnswer', `${what}: the answer is not written in pkt-lines`);
    if (length < LENGTH_DIGITS) {
      yield length === 0 ? 'flush' : length === 1 ? 'delimiter' : 'end';
      at += LENGTH_DIGITS;
      continue;
    }
    if (at + length > bytes.length) throw new Fault('UnexpectedAnswer', `${what}: the answer is cut off`);
    yield bytes.subarray(at + LENGTH_DIGITS, at + length);
    at += length;
  }
}

/** A line of text, without its end. */
export function textOf(content: Buffer): string {
  return content.toString('utf8').replace(/\n$/, '');
}
