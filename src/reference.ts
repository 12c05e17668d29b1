import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { Secret } from './secret.ts';

/** How configuration names a secret or a file: `{ file: path }` or `{ env: NAME }`. Never the value itself. */
export const reference = z.union([
  z.strictObject({ file: z.string().min(1).max(4096) }),
  z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'expected the name of an environment variable') }),
]);

/** Where a secret is to be read from. */
export type Reference = z.infer<typeof reference>;

/** A key, a certificate chain, a kubeconfig: none is longer. */
const REFERENCE_MAX_BYTES = 1024 * 1024;

/**
 * Reads what a reference names, anew at every call: mounted secrets are replaced while we run. Text
 * from the environment is taken as it is. Throws Error, naming the file or variable and never its
 * content, where it is missing, empty or longer than 1 MiB.
 */
export async function readReference(from: Reference): Promise<Secret> {
  if ('env' in from) {
    const value = process.env[from.env];
    if (value === undefined || value === '') throw new Error(`the environment variable ${from.env} is not set`);
    return new Secret(Buffer.from(value));
  }
  const { size } = await stat(from.file).catch(() => ({ size: -1 }));
  if (size < 0) throw new Error(`the file ${from.file} cannot be read`);
  if (size === 0 || size > REFERENCE_MAX_BYTES) throw new Error(`the file ${from.file} has ${size} bytes; expected 1 to ${REFERENCE_MAX_BYTES}`);
  return new Secret(await readFile(from.file));
}
