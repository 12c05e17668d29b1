import { request } from 'undici';
import type { ByteSource } from '#src/envelope/distant.ts';
import { type DistantFolder, SEALED_MANIFEST_MAX_BYTES, sealedManifestName } from '#src/envelope/layout.ts';

/** A store answers within milliseconds; a loaded machine takes longer. Milliseconds. */
const TIMEOUT_MILLISECONDS = 30_000;

/** The sealed files of `s3://<bucket>/<prefix>/`, read with plain GETs and no credentials: ciphertext is public. */
export function openObjects(artifact: string, storeUrl: string): DistantFolder {
  const { host, pathname } = new URL(artifact);
  const urlOf = (path: string): string => `${storeUrl}/${host}${pathname}${path.split('/').map(encodeURIComponent).join('/')}`;
  return {
    manifest: async (codec) => {
      const name = sealedManifestName(codec);
      const size = await sizeOf(urlOf(name));
      if (size > SEALED_MANIFEST_MAX_BYTES) throw new Error(`${artifact}: its manifest has ${size} bytes`);
      return get(urlOf(name), 0, size);
    },
    file: async (path) => openObject(urlOf(path)),
  };
}

async function openObject(url: string): Promise<ByteSource> {
  const sizeBytes = await sizeOf(url);
  const read = async (at: number, into: Buffer): Promise<void> => void (await get(url, at, into.length)).copy(into);
  return { name: url, sizeBytes, read, close: () => {} };
}

async function sizeOf(url: string): Promise<number> {
  const { statusCode, headers, body } = await request(url, { method: 'HEAD', headersTimeout: TIMEOUT_MILLISECONDS });
  await body.dump();
  if (statusCode !== 200) throw new Error(`HEAD ${url}: ${statusCode}`);
  return Number(headers['content-length']);
}

async function get(url: string, at: number, bytes: number): Promise<Buffer> {
  const range = `bytes=${at}-${at + bytes - 1}`;
  const { statusCode, body } = await request(url, { headers: { range }, headersTimeout: TIMEOUT_MILLISECONDS, bodyTimeout: TIMEOUT_MILLISECONDS });
  const got = Buffer.from(await body.arrayBuffer());
  if (statusCode !== 206 || got.length !== bytes) throw new Error(`GET ${url} ${range}: ${statusCode}, ${got.length} bytes`);
  return got;
}
