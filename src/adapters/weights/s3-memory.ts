/** Memory for parts on their way, all files and stores together: whoever wants more waits until somebody has sent his. */
export interface PartMemory {
  readonly take: (bytes: number) => Promise<Buffer<ArrayBuffer>>;
  readonly give: (buffer: Buffer<ArrayBuffer>) => void;
}

/** Opens so many bytes. A part that is longer than that gets its memory when nobody else has any. */
export function openPartMemory(totalBytes: number): PartMemory {
  let usedBytes = 0;
  const waiting: { readonly bytes: number; readonly resolve: (buffer: Buffer<ArrayBuffer>) => void }[] = [];
  /** Given back and kept: freed and made anew, each would stay until the garbage collector comes by. */
  const kept: ArrayBuffer[] = [];
  const make = (bytes: number): Buffer<ArrayBuffer> => {
    const index = kept.findIndex((memory) => memory.byteLength >= bytes);
    const memory = index < 0 ? new ArrayBuffer(bytes) : kept.splice(index, 1)[0];
    if (index < 0) kept.length = 0;
    return Buffer.from(memory ?? new ArrayBuffer(bytes), 0, bytes);
  };
  const serve = (): void => {
    for (let next = waiting[0]; next !== undefined && (usedBytes === 0 || usedBytes + next.bytes <= totalBytes); next = waiting[0]) {
      waiting.shift();
      usedBytes += next.bytes;
      next.resolve(make(next.bytes));
    }
  };
  return {
    take: (bytes) =>
      new Promise((resolve) => {
        waiting.push({ bytes, resolve });
        serve();
      }),
    give: (buffer) => {
      usedBytes -= buffer.length;
      kept.push(buffer.buffer);
      serve();
      if (usedBytes === 0) kept.length = 0;
    },
  };
}
