import { z } from 'zod';
import { reference } from '#src/reference.ts';

/** A vault's address and nothing behind it. The SDK sends no token over anything but TLS. */
const vaultUrl = z
  .url({ protocol: /^https$/ })
  .max(2048)
  .refine((address) => {
    // What is no URL at all has been told so already: zod asks every check.
    const url = URL.parse(address);
    return url === null || (url.pathname === '/' && `${url.search}${url.hash}${url.username}${url.password}` === '');
  }, 'expected the vault’s address alone, such as https://provider.vault.azure.net');

/** `keyStores.<name>` of kind `azure-key-vault`: a vault of Azure Key Vault, or a Managed HSM. */
export const azureKeyVaultSchema = z.strictObject({
  kind: z.literal('azure-key-vault'),
  url: vaultUrl,
  /** A bearer token that somebody else keeps fresh; it is read anew for every use. Absent: Azure's environment, workload identity, managed identity. */
  credential: reference.optional(),
  /** PEM of the CA that the vault's certificate chains to; the system's otherwise. */
  certificateAuthority: reference.optional(),
  /** What new keys live in. `hsm` needs a Premium vault or a Managed HSM; a Standard vault refuses it, and then `software` has to be said. */
  protection: z.enum(['hsm', 'software']).default('hsm'),
  /** Modulus of new keys. Bits; 3072, which NIST SP 800-57 part 1 puts beside AES-128, and Azure serves four times as often as 4096. */
  keySizeBits: z.literal([2048, 3072, 4096]).default(3072),
  /** How long decryption must have been refused before "disabled" is said. Seconds; 60, since a disabled key may be usable for some seconds more. */
  disabledProofSeconds: z.number().min(0).max(86_400).default(60),
});

/** A checked entry of kind `azure-key-vault`. */
export type AzureKeyVaultConfig = z.infer<typeof azureKeyVaultSchema>;
