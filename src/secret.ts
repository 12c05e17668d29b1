import { inspect } from 'node:util';

/**
 * Bytes that must not be seen: a data key, a wrapped key's content, a token.
 *
 * It prints as `[secret]` everywhere (logs, JSON, templates, `inspect`), and is overwritten with
 * zeros when its `using` block ends. `reveal` is the one way to the bytes: look for it in review.
 */
export class Secret implements Disposable {
  readonly #bytes: Buffer;
  #wiped = false;

  /** Takes the bytes over: the caller keeps no copy and does not write to them again. */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** The bytes themselves, valid until this secret is disposed of. Throws once it was. */
  reveal(): Buffer {
    if (this.#wiped) throw new Error('a secret was used after it was wiped');
    return this.#bytes;
  }

  [Symbol.dispose](): void {
    this.#bytes.fill(0);
    this.#wiped = true;
  }

  toString(): string {
    return '[secret]';
  }

  toJSON(): string {
    return '[secret]';
  }

  [inspect.custom](): string {
    return '[secret]';
  }
}
