import { parentPort } from 'node:worker_threads';
import type { Reader, Writer } from './blocks.ts';
import { envelopeError } from './envelope-error.ts';

/**
 * Files that do not lie on this machine. A thread that passes one computes, and nothing else: whoever ordered the pass fetches the bytes
 * and carries them off, window by window, through memory that both sides see. Each side goes on while the other one works, and waits
 * where it is ahead: so a pass takes the same memory whatever its length and however slow the other end is.
 */

/** Where the bytes of a distant file come from. */
export interface ByteSource {
  /** For errors. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills `into` with the bytes from this offset on. Asked from front to back, one call at a time. What it throws ends the pass. */
  readonly read: (at: number, into: Buffer) => Promise<void>;
  /** The pass has ended, well or not. */
  readonly close: () => void;
}

/** Where the bytes of a distant file go. */
export interface ByteSink {
  /** For errors. */
  readonly name: string;
  /** Takes the next bytes of a file that will have so many in all: they are another's once it resolves. One call at a time. What it throws ends the pass. */
  readonly write: (bytes: Buffer, fileBytes: number) => Promise<void>;
}

/** One end of a pass, as the thread sees it. */
export interface Channel {
  readonly name: string;
  /** Of what is read; 0 where it is written. */
  readonly sizeBytes: number;
  readonly shared: SharedArrayBuffer;
}

/** What a thread asks of whoever ordered its pass; the answer is a number in the shared memory. */
export type ChannelCall =
  | { readonly kind: 'read'; readonly at: number; readonly bytes: number }
  | { readonly kind: 'write'; readonly bytes: number; readonly fileBytes: number };

/** What passes at once. A segment's length: more would only take more memory, since both sides work at the same time anyway. */
const WINDOW_BYTES = 1024 * 1024;
/** The longest piece that is taken or given at once. */
const PIECE_MAX_BYTES = 1024 * 1024;
/** In front of the window: one number, and the rest of its cache line. */
const CONTROL_BYTES = 64;
const [IDLE, ASKED, DONE, FAILED] = [0, 1, 2, 3];

/** Makes a channel for a file of this length at most. */
export function openChannel(name: string, sizeBytes: number, windowBytes: number = WINDOW_BYTES): Channel {
  return { name, sizeBytes, shared: new SharedArrayBuffer(CONTROL_BYTES + Math.min(windowBytes, WINDOW_BYTES)) };
}

/** Carries a call out, on the side that ordered the pass. Never throws: what does is told to `failed`, and the thread gives up. */
export async function answerCall(channel: Channel, work: (window: Buffer) => Promise<void>, bytes: number, failed: (error: unknown) => void): Promise<void> {
  const control = new Int32Array(channel.shared, 0, 1);
  try {
    await work(Buffer.from(channel.shared, CONTROL_BYTES, bytes));
    Atomics.store(control, 0, DONE);
  } catch (error) {
    failed(error);
    Atomics.store(control, 0, FAILED);
  }
  Atomics.notify(control, 0);
}

/** The thread's side of a channel: at most one call is under way. */
interface Line {
  readonly window: Buffer;
  readonly ask: (call: ChannelCall) => void;
  /** Waits until the call under way, if there is one, was answered. Throws where it failed; the true error is on the other side. */
  readonly settle: () => void;
}

function openLine({ name, shared }: Channel): Line {
  const control = new Int32Array(shared, 0, 1);
  return {
    window: Buffer.from(shared, CONTROL_BYTES),
    ask: (call) => {
      Atomics.store(control, 0, ASKED);
      parentPort?.postMessage(call);
    },
    settle: () => {
      Atomics.wait(control, 0, ASKED);
      if (Atomics.load(control, 0) === FAILED) throw Object.assign(new Error(`the other end of ${name} failed`), { code: 'ECANCELED', path: name });
      Atomics.store(control, 0, IDLE);
    },
  };
}

/** Reads a distant file from front to back, one window ahead of who takes. */
export function openDistantReader(channel: Channel): Reader {
  const line = openLine(channel);
  const held = Buffer.allocUnsafeSlow(PIECE_MAX_BYTES + WINDOW_BYTES);
  /** What is held, in the front of `held`: the file's bytes from `from` to `to`. `asked` more are on their way. */
  let [from, to, asked] = [0, 0, 0];
  const askOn = (): void => {
    asked = Math.min(line.window.length, channel.sizeBytes - to);
    if (asked > 0) line.ask({ kind: 'read', at: to, bytes: asked });
  };
  return {
    take: (at, bytes) => {
      if (at < from || at > to) throw new TypeError('a distant file is read from front to back');
      held.copyWithin(0, at - from, to - from);
      from = at;
      while (to < at + bytes) {
        if (asked === 0) askOn();
        if (asked === 0) throw envelopeError('truncated', `the file ended at byte ${to}`);
        line.settle();
        line.window.copy(held, to - from, 0, asked);
        to += asked;
        askOn();
      }
      return held.subarray(0, bytes);
    },
    close: () => {
      held.fill(0);
    },
  };
}

/** Writes a distant file of this length from front to back. */
export function openDistantWriter(channel: Channel, fileBytes: number): Writer {
  const line = openLine(channel);
  const held = Buffer.allocUnsafeSlow(PIECE_MAX_BYTES + WINDOW_BYTES);
  let filled = 0;
  const give = (): void => {
    const bytes = Math.min(filled, line.window.length);
    line.settle();
    held.copy(line.window, 0, 0, bytes);
    line.ask({ kind: 'write', bytes, fileBytes });
    held.copyWithin(0, bytes, filled);
    filled -= bytes;
  };
  return {
    room: (bytes) => held.subarray(filled, filled + bytes),
    filled: (bytes) => {
      filled += bytes;
      while (filled >= line.window.length) give();
    },
    finish: () => {
      while (filled > 0) give();
      line.settle();
    },
    close: () => {
      held.fill(0);
    },
  };
}
