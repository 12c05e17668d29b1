import { type DestinationStream, destination, type LevelWithSilent, pino } from 'pino';

/** The levels, from what only helps while developing to what somebody must read. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** What belongs to a line: names and numbers. A `Secret` in it prints as `[secret]`; an Error under `error` prints with its causes. */
export type Details = Readonly<Record<string, unknown>>;

/** Writes one line: details first, then a message that never changes, so that lines can be counted by it. */
export type Write = (details: Details, message: string) => void;

/** The log: JSON, one object a line, on standard error, since standard output belongs to what commands answer. */
export interface Log {
  readonly debug: Write;
  readonly info: Write;
  readonly warn: Write;
  readonly error: Write;
}

/**
 * Names under which something secret could be logged by mistake, at the top or one below. A second
 * net: secrets are `Secret`s, and print as `[secret]` wherever they stand.
 */
const SECRET_NAMES = ['password', 'secret', 'token', 'authorization', 'cookie', 'pin', 'privateKey', 'plaintext'];
/** A detail longer than this is cut: an answer of a foreign system may be a megabyte. Characters. */
const DETAIL_MAX_LENGTH = 4096;
/** Causes of causes, at most: a chain may be a ring. */
const CAUSES_MAX = 5;

/** Opens the log. Lines are written at once, so that none is lost when the process dies. */
export function openLog(level: LogLevel = 'info', to: DestinationStream = destination({ fd: 2, sync: true })): Log {
  const log = pino(
    {
      level: level satisfies LevelWithSilent,
      base: null,
      messageKey: 'message',
      timestamp: () => `,"at":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_NAMES.flatMap((name) => [name, `*.${name}`]), censor: '[secret]' },
    },
    to,
  );
  const writer =
    (write: (details: object, message: string) => void): Write =>
    (details, message) =>
      write(printable(details), message);
  return {
    debug: writer((details, message) => log.debug(details, message)),
    info: writer((details, message) => log.info(details, message)),
    warn: writer((details, message) => log.warn(details, message)),
    error: writer((details, message) => log.error(details, message)),
  };
}

/** A log that writes nothing: for tests. */
export const silentLog: Log = openLog('silent');

function printable(details: Details): object {
  return Object.fromEntries(Object.entries(details).map(([name, value]) => [name, value instanceof Error ? printableError(value) : cut(value)]));
}

function cut(value: unknown): unknown {
  return typeof value === 'string' && value.length > DETAIL_MAX_LENGTH ? `${value.slice(0, DETAIL_MAX_LENGTH)}…` : value;
}

function printableError(error: Error, depth = 0): object {
  const { name, message, stack, cause } = error;
  const reason = 'reason' in error ? { reason: error.reason } : {};
  const because = cause instanceof Error && depth < CAUSES_MAX ? { cause: printableError(cause, depth + 1) } : {};
  return { name, ...reason, message: cut(message), stack: cut(stack), ...because };
}
