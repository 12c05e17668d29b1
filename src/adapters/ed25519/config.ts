import { z } from 'zod';
import { reference } from '#src/reference.ts';

/** `receipts.signer` with a key of our own: PKCS #8, PEM, Ed25519 (RFC 8410). */
export const ed25519SignerConfig = z.strictObject({ kind: z.literal('ed25519'), key: reference });

/** See `ed25519SignerConfig`. */
export type Ed25519SignerConfig = z.infer<typeof ed25519SignerConfig>;
