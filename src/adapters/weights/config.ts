import { z } from 'zod';

/** The same place as guests name it, without a slash at its end. `${artifact}` is made from it. */
const guestAddress = z
  .string()
  .max(1024)
  .regex(/^[a-z][a-z0-9+.-]*:\/\/\S*[^\s/]$/, 'expected an address such as file:///models or s3://bucket, without a slash at its end');

/** A folder of a file system that this process can write to. */
const file = z.strictObject({
  kind: z.literal('file'),
  /** Absolute. It must exist: a mount that is missing is a fault, not a new folder on another disk. */
  path: z
    .string()
    .max(4096)
    .regex(/^\/(?:[^/\0]+\/)*[^/\0]+$/, 'expected an absolute path, without a slash at its end'),
  guestAddress,
});

/** Anything but a loopback address is reached over TLS only. */
const endpoint = z.url({ protocol: /^https?$/ }).refine((address) => {
  const { protocol, hostname } = URL.parse(address) ?? { protocol: 'https:', hostname: '' };
  return protocol === 'https:' || hostname === '127.0.0.1' || hostname === '[::1]' || hostname === 'localhost';
}, 'expected https, or http on a loopback address');

/** An S3 bucket. Credentials come from the SDK's own chain: environment, web identity, container, instance. */
const s3 = z.strictObject({
  kind: z.literal('s3'),
  bucket: z.string().regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, 'expected the name of an S3 bucket'),
  region: z.string().regex(/^[a-z0-9-]{1,60}$/, 'expected an AWS region'),
  /** Another service that speaks S3's protocol, with the bucket in the path; AWS's own address otherwise. */
  endpoint: endpoint.optional(),
  guestAddress,
});

/** One entry of `artifactStores`: where ciphertext is kept. */
export const artifactStoreSchema = z.discriminatedUnion('kind', [file, s3]);

/** A checked entry of `artifactStores`. */
export type StoreConfig = z.infer<typeof artifactStoreSchema>;
