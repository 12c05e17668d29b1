/** Deltas as packs hold them (gitformat-pack, *Deltified representation*): how to make one object out of another. */

/** How many bytes a delta wants for its base, how many it makes, and where its instructions begin. Throws Error where it is cut off. */
export function sizesOf(delta: Buffer): { readonly base: number; readonly made: number; readonly at: number } {
  const base = readNumber(delta, 0);
  const made = readNumber(delta, base.at);
  return { base: base.value, made: made.value, at: made.at };
}

/** Seven bits a byte, the smallest first. */
function readNumber(bytes: Buffer, start: number): { readonly value: number; readonly at: number } {
  let value = 0;
  let at = start;
  for (let scale = 1; ; scale *= 128) {
    const byte = byteAt(bytes, at++);
    value += (byte & 127) * scale;
    if (byte < 128) return { value, at };
  }
}

/** A byte of a pack or of a delta. Throws Error beyond its end. */
export function byteAt(bytes: Buffer, at: number): number {
  const byte = bytes[at];
  if (byte === undefined) throw new Error('a pack that is cut off');
  return byte;
}

/** The object that a delta makes of its base. The caller has looked at the size. Throws Error for a delta that does not fit its base, or makes another size than it says. */
export function applyDelta(base: Buffer, delta: Buffer): Buffer {
  const sizes = sizesOf(delta);
  if (sizes.base !== base.length) throw new Error('a delta for another base');
  const made = Buffer.alloc(sizes.made);
  let [at, to] = [sizes.at, 0];
  while (at < delta.length) {
    const code = byteAt(delta, at++);
    if (code === 0) throw new Error('a delta with an instruction that nobody knows');
    const isCopy = code >= 128;
    const span = isCopy ? spanOf(delta, at, code) : { from: at, length: code, at: at + code };
    const source = isCopy ? base : delta;
    if (span.from + span.length > source.length || to + span.length > made.length) throw new Error('a delta that reaches too far');
    source.copy(made, to, span.from, span.from + span.length);
    to += span.length;
    at = span.at;
  }
  if (to !== made.length) throw new Error('a delta that makes less than it says');
  return made;
}

/** A copy's place and length: of seven bytes those that are not zero are written. */
function spanOf(delta: Buffer, start: number, code: number): { readonly from: number; readonly length: number; readonly at: number } {
  let [from, length, at] = [0, 0, start];
  for (let bit = 0; bit < 4; bit += 1) if ((code >> bit) & 1) from += byteAt(delta, at++) * 256 ** bit;
  for (let bit = 0; bit < 3; bit += 1) if ((code >> (bit + 4)) & 1) length += byteAt(delta, at++) * 256 ** bit;
  return { from, length: length === 0 ? 0x10000 : length, at };
}
