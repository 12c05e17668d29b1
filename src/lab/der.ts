/** DER (X.690), written: what the lab's certificates, logs and timestamps are made of. */

/** The tag SEQUENCE. */
export const SEQUENCE = 0x30;
/** The tag SET. */
export const SET = 0x31;
/** The tag INTEGER. */
export const INTEGER = 0x02;
/** The tag BIT STRING: its first byte says how many of its last bits are not used. */
export const BITS = 0x03;
/** The tag OCTET STRING. */
export const OCTETS = 0x04;
/** The tag UTF8String. */
export const UTF8 = 0x0c;
/** BOOLEAN, true. */
export const TRUE = Buffer.from('0101ff', 'hex');
/** AlgorithmIdentifier of ECDSA with SHA-256 (RFC 5758 §3.2). */
export const ECDSA_WITH_SHA256 = der(SEQUENCE, oid('1.2.840.10045.4.3.2'));
/** AlgorithmIdentifier of SHA-256 (RFC 5754 §2). */
export const SHA256 = der(SEQUENCE, oid('2.16.840.1.101.3.4.2.1'));

/** One element around these contents. */
export function der(tag: number, ...contents: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(contents.map((content) => (typeof content === 'string' ? Buffer.from(content) : content)));
  if (body.length < 0x80) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  const length = Buffer.from(body.length.toString(16).padStart(body.length < 0x100 ? 2 : 4, '0'), 'hex');
  return Buffer.concat([Buffer.from([tag, 0x80 | length.length]), length, body]);
}

/** An object identifier, from its numbers with dots. */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

/** Seven bits a byte, every byte but the last with its highest bit set. */
function base128(number: number): readonly number[] {
  const bytes = [number & 0x7f];
  for (let rest = Math.floor(number / 128); rest > 0; rest = Math.floor(rest / 128)) bytes.unshift(0x80 | (rest & 0x7f));
  return bytes;
}

/** UTCTime, of the years 1950 to 2049. Whole seconds. */
export function utcTime(milliseconds: number): Buffer {
  return der(0x17, digitsOf(milliseconds).slice(2));
}

/** GeneralizedTime. Whole seconds. */
export function generalizedTime(milliseconds: number): Buffer {
  return der(0x18, digitsOf(milliseconds));
}

/** YYYYMMDDHHMMSSZ. */
function digitsOf(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
}
