import type { Reason } from './domain/reasons.ts';

/**
 * An outside system failed or refused. Thrown by adapters only.
 *
 * The message says who was doing what to what, never a secret: `trustee POST resource: 401
 * PolicyDeny`. What happens next, and what a person can do, is the reason's (`domain/reasons.ts`).
 * Compare `reason`, never the message, and never `instanceof` across a boundary: use `isFault`.
 */
export class Fault extends Error {
  override readonly name = 'Fault';
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** Whether something thrown is a Fault, whichever copy of the class made it. */
export function isFault(thrown: unknown): thrown is Fault {
  return thrown instanceof Error && thrown.name === 'Fault' && 'reason' in thrown;
}
