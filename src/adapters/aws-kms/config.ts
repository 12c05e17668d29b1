import { z } from 'zod';

/** Anything but a loopback address is reached over TLS only. */
const endpoint = z.url({ protocol: /^https?$/ }).refine((address) => {
  // What is no URL at all has been told so already: zod asks every check.
  const { protocol, hostname } = URL.parse(address) ?? { protocol: 'https:', hostname: '' };
  return protocol === 'https:' || hostname === '127.0.0.1' || hostname === '[::1]' || hostname === 'localhost';
}, 'expected https, or http on a loopback address');

/** `keyStores.<name>` of kind `aws-kms`. Credentials come from the SDK's own chain: environment, web identity, container, instance. */
export const awsKmsSchema = z.strictObject({
  kind: z.literal('aws-kms'),
  region: z.string().regex(/^[a-z0-9-]{1,60}$/, 'expected an AWS region'),
  /** A private endpoint, or another service that speaks AWS KMS's protocol; AWS's own address otherwise. */
  endpoint: endpoint.optional(),
  /** How long decryption must have been refused before "disabled" is said. Seconds; 60, since a disabled key may be usable for some seconds more. */
  disabledProofSeconds: z.number().min(0).max(86_400).default(60),
  /** How long a key whose destruction was scheduled can be called back. Days; AWS takes 7 to 30, and 30 where nothing is said. */
  destructionWindowDays: z.int().min(7).max(30).default(30),
});

/** A checked entry of kind `aws-kms`. */
export type AwsKmsConfig = z.infer<typeof awsKmsSchema>;
