import { createHash, type Hash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { createInflate, inflateSync } from 'node:zlib';
import { Fault } from '#src/errors.ts';
import { applyDelta, byteAt, sizesOf } from './delta.ts';

/** No document of ours has a thirtieth of it, and a folder of 100,000 entries is smaller. A larger object is passed over, never kept. */
export const OBJECT_MAX_BYTES = 8 * 1024 * 1024;
/** All that one pack says it holds, unpacked: what is passed over has to be unpacked too, to find its end. Bytes. */
const PACK_MAX_BYTES = 1024 * 1024 * 1024;
/** A year of hourly merges is a seventh of it; each costs some hundred bytes of memory. */
const OBJECTS_MAX = 500_000;
/** What deltas may make in one go: a thousand commits of a folder of thousands differ by a line each. Bytes. */
const WORK_MAX_BYTES = 2 * 1024 * 1024 * 1024;
/** Git's own greatest depth. */
const CHAIN_MAX = 4095;
/** Bases that are kept unpacked, since deltas come in families. Bytes. */
const CACHE_MAX_BYTES = 32 * 1024 * 1024;
/** Deltas by name whose base is a delta by name: hosts write none at all where they are offered deltas by offset. */
const ROUNDS_MAX = 8;
/** How long the process may be kept from everything else. Milliseconds. */
const TURN_MILLISECONDS = 20;

const HEADER_BYTES = 12;
const TRAILER_BYTES = 20;
const NAME_BYTES = 20;
/** By number. */
const KINDS = [null, 'commit', 'tree', 'blob', 'tag'] as const;
const [OFFSET_DELTA, NAME_DELTA] = [6, 7];

/** The four kinds of Git's objects. */
export type ObjectKind = 'commit' | 'tree' | 'blob' | 'tag';

/** An object, unpacked. */
export interface GitObject {
  readonly kind: ObjectKind;
  readonly bytes: Buffer;
}

/** An object's place in its pack. */
interface Entry {
  /** null: a delta, and of its base's kind. */
  readonly kind: ObjectKind | null;
  /** Of a delta: its base's offset, or name. */
  readonly base: number | string | null;
  /** Where its deflated content begins. */
  readonly at: number;
  /** What is deflated, and what it makes: the same but for a delta. Bytes. */
  readonly size: number;
  readonly made: number;
}

/** A pack that was walked from end to end; what is too large is named, or at least counted. */
export interface Pack {
  readonly bytes: Buffer;
  readonly byOffset: ReadonlyMap<number, Entry>;
  readonly byName: ReadonlyMap<string, Entry>;
  /** Names of larger objects, with their sizes. */
  readonly tooLarge: ReadonlyMap<string, number>;
  /** Objects without a name here: deltas that make too much, or rest on what is not there. */
  readonly nameless: number;
}

/** What one reading may cost, and what it has unpacked. A hostile pack may have a gigabyte made of some bytes, again and again. */
export interface Work {
  bytesLeft: number;
  readonly cache: Map<Entry, GitObject>;
  cacheBytes: number;
}

/** An allowance for one reading. */
export function beginWork(): Work {
  return { bytesLeft: WORK_MAX_BYTES, cache: new Map(), cacheBytes: 0 };
}

/**
 * Walks a pack (gitformat-pack) and names every object in it, as SHA-1 says. What is larger than
 * `OBJECT_MAX_BYTES`, or would be, is passed over: it stops nothing else. Throws Fault('LimitExceeded')
 * where the pack itself is too large to be walked; Error for what is no pack, or is damaged. `work`: what
 * deltas may cost.
 */
export async function readPack(bytes: Buffer, work: Work = beginWork()): Promise<Pack> {
  const count = checkEnds(bytes);
  const pack = { bytes, byOffset: new Map<number, Entry>(), byName: new Map<string, Entry>(), tooLarge: new Map<string, number>(), nameless: 0 };
  const breathe = openBreath();
  let [at, unpacked] = [HEADER_BYTES, 0];
  for (let left = count; left > 0; left -= 1) {
    const head = readHead(bytes, at);
    unpacked += head.size;
    if (unpacked > PACK_MAX_BYTES) throw tooMuch(`more than ${PACK_MAX_BYTES} bytes unpacked`);
    const { entry, name, end } = head.size > OBJECT_MAX_BYTES ? await passOver(bytes, head) : readEntry(bytes, head);
    pack.byOffset.set(at, entry);
    if (name !== null && entry.size > OBJECT_MAX_BYTES) pack.tooLarge.set(name, entry.size);
    else if (name !== null) pack.byName.set(name, entry);
    at = end;
    await breathe();
  }
  if (at !== bytes.length - TRAILER_BYTES) throw new Error('a pack with something behind its last object');
  return { ...pack, nameless: await nameDeltas(pack, work, breathe) };
}

function checkEnds(bytes: Buffer): number {
  if (bytes.length < HEADER_BYTES + TRAILER_BYTES || bytes.toString('latin1', 0, 4) !== 'PACK' || bytes.readUInt32BE(4) !== 2) throw new Error('not a pack');
  const hash = createHash('sha1').update(bytes.subarray(0, -TRAILER_BYTES)).digest();
  if (!hash.equals(bytes.subarray(-TRAILER_BYTES))) throw new Error('a pack that was damaged on its way');
  const count = bytes.readUInt32BE(8);
  if (count > OBJECTS_MAX) throw tooMuch(`${count} objects, expected at most ${OBJECTS_MAX}`);
  return count;
}

function tooMuch(what: string): Fault {
  return new Fault('LimitExceeded', `git fetch: a pack of ${what}`);
}

/** Lets others run now and then: a large pack takes seconds. */
export function openBreath(): () => Promise<void> {
  let began = performance.now();
  return async () => {
    if (performance.now() - began < TURN_MILLISECONDS) return;
    await setImmediate();
    began = performance.now();
  };
}

// ---------------------------------------------------------------- entries

type Head = Pick<Entry, 'kind' | 'base' | 'at' | 'size'>;

interface Walked {
  readonly entry: Entry;
  /** null: not yet known. */
  readonly name: string | null;
  readonly end: number;
}

function readHead(bytes: Buffer, start: number): Head {
  let at = start;
  let byte = byteAt(bytes, at++);
  const type = (byte >> 4) & 7;
  let size = byte & 15;
  for (let scale = 16; byte >= 128; scale *= 128) {
    byte = byteAt(bytes, at++);
    size += (byte & 127) * scale;
  }
  if (type === NAME_DELTA) return { kind: null, base: bytes.toString('hex', at, at + NAME_BYTES), at: at + NAME_BYTES, size };
  if (type === OFFSET_DELTA) {
    byte = byteAt(bytes, at++);
    let back = byte & 127;
    while (byte >= 128) {
      byte = byteAt(bytes, at++);
      back = (back + 1) * 128 + (byte & 127);
    }
    return { kind: null, base: start - back, at, size };
  }
  const kind = KINDS[type] ?? null;
  if (kind === null) throw new Error(`a pack with an object of type ${type}`);
  return { kind, base: null, at, size };
}

function readEntry(bytes: Buffer, head: Head): Walked {
  const { buffer, engine } = inflate(bytes.subarray(head.at), head.size);
  const end = head.at + engine.bytesWritten;
  if (head.kind === null) return { entry: { ...head, made: sizesOf(buffer).made }, name: null, end };
  return { entry: { ...head, made: head.size }, name: nameOf({ kind: head.kind, bytes: buffer }), end };
}

/** The size that the header says is the most that is unpacked; with `info`, Node tells where the stream ended, and its types do not know that. */
function inflate(bytes: Buffer, size: number): { readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } } {
  const options = { info: true, maxOutputLength: Math.max(1, size), chunkSize: Math.max(64, Math.min(size + 1, 64 * 1024)) };
  const inflated = inflateSync(bytes, options) as unknown as ReturnType<typeof inflate>;
  if (inflated.buffer.length !== size) throw new Error('a pack whose object is not as long as its header says');
  return inflated;
}

/** Unpacks what is too large piece by piece, keeping nothing but its name. */
async function passOver(bytes: Buffer, head: Head): Promise<Walked> {
  const engine = createInflate();
  const hash = head.kind === null ? null : hashOf(head.kind, head.size);
  let length = 0;
  engine.end(bytes.subarray(head.at));
  for await (const chunk of engine as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > head.size) break;
    hash?.update(chunk);
  }
  if (length !== head.size) throw new Error('a pack whose object is not as long as its header says');
  return { entry: { ...head, made: head.size }, name: hash === null ? null : hash.digest('hex'), end: head.at + engine.bytesWritten };
}

function hashOf(kind: ObjectKind, size: number): Hash {
  return createHash('sha1').update(`${kind} ${size}\0`);
}

/** An object's name: SHA-1 over its kind, its length and its bytes. */
export function nameOf({ kind, bytes }: GitObject): string {
  return hashOf(kind, bytes.length).update(bytes).digest('hex');
}

// ---------------------------------------------------------------- deltas

/** Names what deltas make, the small first: whoever fills a pack with large ones keeps no document from being read. Answers how many stay without a name. */
async function nameDeltas(
  pack: Omit<Pack, 'byName' | 'nameless'> & { readonly byName: Map<string, Entry> },
  work: Work,
  breathe: () => Promise<void>,
): Promise<number> {
  const deltas = [...pack.byOffset.values()].filter(({ kind }) => kind === null);
  const fitting = deltas.filter(({ made, size }) => made <= OBJECT_MAX_BYTES && size <= OBJECT_MAX_BYTES);
  // Coarsely, so that families stay together.
  let open = fitting.sort((a, b) => Math.ceil(Math.log2(a.made + 1)) - Math.ceil(Math.log2(b.made + 1)));
  for (let round = 0; round < ROUNDS_MAX && open.length > 0; round += 1) {
    const still: Entry[] = [];
    for (const entry of open) {
      const object = work.bytesLeft < 0 ? null : unpack(pack, entry, work);
      const name = object === null ? null : nameOf(object);
      if (name === null) still.push(entry);
      // An object that was there stays: one that rests on its own name could never be unpacked again.
      else if (!pack.byName.has(name)) pack.byName.set(name, entry);
      await breathe();
    }
    if (still.length === open.length) break;
    open = still;
  }
  return open.length + deltas.length - fitting.length;
}

/** Unpacks an object of a pack; null: it rests on what is not there or too large, does not fit, or the work would be too much. Never throws. */
export function unpack(pack: Pick<Pack, 'bytes' | 'byOffset' | 'byName'>, wanted: Entry, work: Work): GitObject | null {
  const chain: Entry[] = [];
  let at = wanted;
  while (at.base !== null && !work.cache.has(at)) {
    chain.push(at);
    const base = typeof at.base === 'number' ? pack.byOffset.get(at.base) : pack.byName.get(at.base);
    if (base === undefined || base === at || chain.length > CHAIN_MAX) return null;
    at = base;
  }
  const parts = [at, ...chain.reverse()];
  if (parts.some(({ made, size }) => made > OBJECT_MAX_BYTES || size > OBJECT_MAX_BYTES)) return null;
  try {
    return parts.reduce<GitObject | null>((object, entry) => made(pack, object, entry, work), null);
  } catch {
    return null;
  }
}

/** One link of a chain. Throws Error where it does not fit, or where the work is too much. */
function made({ bytes }: Pick<Pack, 'bytes'>, base: GitObject | null, entry: Entry, work: Work): GitObject {
  const known = work.cache.get(entry);
  if (known !== undefined) return known;
  work.bytesLeft -= entry.size + entry.made;
  if (work.bytesLeft < 0) throw new Error('too much work');
  const { buffer } = inflate(bytes.subarray(entry.at), entry.size);
  const object = entry.kind !== null ? { kind: entry.kind, bytes: buffer } : base === null ? null : { kind: base.kind, bytes: applyDelta(base.bytes, buffer) };
  if (object === null) throw new Error('a delta without a base');
  work.cache.set(entry, object);
  work.cacheBytes += object.bytes.length;
  for (const [oldest, { bytes: dropped }] of work.cache) {
    if (work.cacheBytes <= CACHE_MAX_BYTES) break;
    work.cache.delete(oldest);
    work.cacheBytes -= dropped.length;
  }
  return object;
}
