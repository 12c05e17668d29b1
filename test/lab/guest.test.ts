import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { newFetchedKey } from '#src/envelope/codec.ts';
import { manifestOf, sealedManifestName, sealedPath, sealManifest } from '#src/envelope/layout.ts';
import { type EnvelopeWorkers, openWorkers } from '#src/envelope/workers.ts';
import { bootGuest, type GuestOrder } from '#src/lab/guest.ts';
import { reportData } from '#src/lab/guest-kbs.ts';
import { ALLOW, DENY, type GuestStand, openGuestStand } from './guest-stand.ts';

describe('a guest', () => {
  let stand: GuestStand;
  let workers: EnvelopeWorkers;
  beforeEach(async () => {
    stand = await openGuestStand();
    workers = openWorkers(1);
    await stand.setPolicy(ALLOW);
  });
  afterEach(async () => {
    await workers.close();
    await stand.close();
  });
  const boot = (change: Partial<GuestOrder> = {}): ReturnType<typeof bootGuest> => {
    const order = {
      runtimeClass: 'kata-lab-1',
      initData: stand.initData,
      keyUri: stand.keyUri,
      artifact: stand.artifact,
      images: [stand.image],
      address: '127.64.250.1',
      ...change,
    };
    return bootGuest(order, { workers, pauseSeconds: 0.01, objectStoreUrl: null }, () => undefined, new AbortController().signal);
  };
  const counted = (): Record<string, number> =>
    Object.fromEntries([...Map.groupBy(stand.calls, ({ method, path, status }) => `${method} ${path} ${status}`)].map(([call, all]) => [call, all.length]));

  it('attests, fetches and opens from its own address, in one handshake', async () => {
    const opened = await boot();
    expect(opened.manifest.lines.map(({ path }) => path)).toEqual(['config.json', 'model.safetensors']);
    expect(counted()).toEqual({ 'POST /kbs/v0/auth 200': 1, 'POST /kbs/v0/attest 200': 1, 'GET /kbs/v0/resource/keyturn/w/s1 200': 1 });
    expect(new Set(stand.calls.map(({ address }) => address))).toEqual(new Set(['127.64.250.1']));
  });

  it('that is refused has cost four attestations and three fetches, as the stock client does', async () => {
    await stand.setPolicy(DENY);
    await expect(boot()).rejects.toThrow('request unauthorized');
    expect(counted()).toEqual({ 'POST /kbs/v0/auth 200': 4, 'POST /kbs/v0/attest 200': 4, 'GET /kbs/v0/resource/keyturn/w/s1 401': 3 });
  });

  it('does not open weights with another key', async () => {
    const other = Buffer.from(await readFile(join(stand.folder, 'sealed', 'config.json.sealed')));
    await stand.putKey('keyturn/w/other', other);
    await expect(boot({ keyUri: 'kbs:///keyturn/w/other' })).rejects.toMatchObject({ name: 'EnvelopeError' });
  });

  it('opens what was sealed as JWE: the key that it fetched says so', async () => {
    const [plain, sealed] = [join(stand.folder, 'plain'), join(stand.folder, 'jwe')];
    using key = newFetchedKey('kserve-jwe');
    const manifest = await manifestOf(plain, workers);
    await mkdir(sealed);
    for (const { path } of manifest.lines) {
      const order = { openWith: null, sealWith: key, sealAs: 'kserve-jwe', associatedData: '', hash: 'neither' } as const;
      await workers.pass({ from: join(plain, path), to: join(sealed, sealedPath(path, 'kserve-jwe')), ...order });
    }
    await writeFile(join(sealed, sealedManifestName('kserve-jwe')), sealManifest(manifest, key, 'kserve-jwe'));
    await stand.putKey('keyturn/w/jwe', Buffer.from(key.reveal()));
    const opened = await boot({ keyUri: 'kbs:///keyturn/w/jwe', artifact: `file://${sealed}/` });
    expect(opened.manifest.digest).toBe(manifest.digest);
    // Tink's keyset opens none of it.
    await expect(boot({ artifact: `file://${sealed}/` })).rejects.toThrow('keyturn.manifest.sealed');
  });

  it('does not serve weights of which one byte was changed', async () => {
    const file = join(stand.folder, 'sealed', 'model.safetensors.sealed');
    const bytes = await readFile(file);
    bytes[bytes.length - 100] = (bytes[bytes.length - 100] ?? 0) ^ 1;
    await writeFile(file, bytes);
    await expect(boot()).rejects.toMatchObject({ name: 'EnvelopeError' });
  });

  it('does not even ask for a key with an image that its init-data does not admit', async () => {
    await expect(boot({ images: [stand.image, `registry.example/evil@sha256:${'6'.repeat(64)}`] })).rejects.toThrow('Image policy rejected');
    expect(stand.calls).toEqual([]);
  });

  it.each([
    ['no init-data', { initData: '' }],
    ['a runtime class that is no lab guest’s', { runtimeClass: 'kata-qemu-snp' }],
    ['a path of two segments', { keyUri: 'kbs:///a/b' }],
  ])('does not start with %s', async (_, change) => {
    await expect(boot(change)).rejects.toThrow(Error);
    expect(stand.calls).toEqual([]);
  });
});

// Computed against a real KBS (trustee 78962cd…): the key's private half is 7.
it('a guest binds its key and the nonce into the evidence', () => {
  const key = {
    kty: 'EC',
    crv: 'P-256',
    alg: 'ECDH-ES+A256KW',
    x: 'jlM7b6C_e0YluzBmfAH7YH75-LioD-9bMAYocDGHsqM',
    y: 'c-sdveAzGDZtBp-DpvWQAFPHNjPLBBshxV4ahsH0ALQ',
  };
  expect(reportData('AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=', key)).toBe('gKDzAEnkD1QNEjVChFBAFrIhoeETF1wopVsg3m65D3R/wEV4DOCdAyDYEljJdY1I');
});
