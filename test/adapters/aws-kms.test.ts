import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { awsKmsSchema } from '#src/adapters/aws-kms/config.ts';
import { openAwsKms } from '#src/adapters/aws-kms/index.ts';
import { instantOf } from '#src/instant.ts';
import { type LabKms, type LabKmsOptions, openLabKms } from '#src/lab/kms.ts';
import { Secret } from '#src/secret.ts';
import { fenced, keyStoreContract, makeKey, permit, reasonOf } from '#test/contracts/key-store.ts';

const ROTATION = 'r-0123456789abcdef';
const START = 1_795_000_000_000;

/** A lab KMS on a clock that the test moves, and two installations' adapters on it. */
async function openStores(lab: Omit<LabKmsOptions, 'folder' | 'clock'> = {}) {
  let now = START;
  const kms = await openLabKms({ ...lab, folder: null, clock: async () => now });
  const open = (installation: string) =>
    openAwsKms('provider-kms', awsKmsSchema.parse({ kind: 'aws-kms', region: 'eu-central-1', endpoint: kms.url }), {
      installation,
      clock: async () => instantOf(now),
    });
  return {
    kms,
    store: open('test'),
    elsewhere: open('other'),
    open,
    pass: (seconds: number) => {
      now += seconds * 1000;
    },
    settle: async () => {
      now += (lab.listLagMilliseconds ?? 0) + (lab.tagLagMilliseconds ?? 0) + (lab.disableLagMilliseconds ?? 0);
    },
    loseNextAnswer: () => kms.trouble({ kind: 'lose-answer' }),
    passDays: async (days: number) => {
      now += days * 86_400_000;
    },
    destructionWindowDays: 30,
    callBack: (keyId: string) => call(kms, 'CancelKeyDeletion', { KeyId: keyId }),
    close: kms.close,
  };
}

beforeEach(() => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIAEXAMPLEEXAMPLE00');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'not-a-secret');
});
afterEach(() => void vi.unstubAllEnvs());

keyStoreContract('aws-kms', () => openStores());
keyStoreContract('aws-kms with listings that lag', () =>
  openStores({ listLagMilliseconds: 5000, tagLagMilliseconds: 60_000, disableLagMilliseconds: 45_000, pageMax: 1 }),
);

describe('aws-kms', () => {
  let under: Awaited<ReturnType<typeof openStores>>;
  let kms: LabKms;
  beforeEach(async () => {
    under = await openStores();
    kms = under.kms;
  });
  afterEach(() => under.close());

  it('sends a creation once whatever the service answers, and reports the answer', async () => {
    for (const [kind, type, reason] of [
      ['server-error', 'KMSInternalException', 'ServerError'],
      ['throttle', 'ThrottlingException', 'Throttled'],
      ['refuse', 'AccessDeniedException', 'PermissionDenied'],
    ] as const) {
      kms.trouble({ kind, operation: 'CreateKey' });
      const { read, answers } = permit(ROTATION);
      expect(await reasonOf(under.store.create(read))).toBe(reason);
      expect(answers).toMatchObject([{ type, detail: { requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) } }]);
      expect(await under.store.find(ROTATION)).toEqual([]);
    }
  });

  it('makes one key where the service made it and answered with an error', async () => {
    kms.trouble({ kind: 'server-error-after', operation: 'CreateKey' });
    expect(await reasonOf(under.store.create(permit(ROTATION).read))).toBe('ServerError');
    expect(await under.store.find(ROTATION)).toHaveLength(1);
  });

  it('finds both keys where a creation arrived twice', async () => {
    kms.trouble({ kind: 'twice', operation: 'CreateKey' });
    const keyId = await makeKey(under);
    const keys = await under.store.find(ROTATION);
    expect(keys).toHaveLength(2);
    expect(keys.map((key) => key.keyId)).toContain(keyId);
  });

  it('goes by what the service does and not by what it shows: a key that is shown as disabled and still decrypts is not refused', async () => {
    await under.close();
    under = await openStores({ disableLagMilliseconds: 60_000 });
    const keyId = await makeKey(under);
    using plaintext = new Secret(randomBytes(32));
    const canary = await under.store.encrypt(keyId, plaintext, { path: 'x' });
    await under.store.disable(permit(ROTATION, keyId).read);
    expect(await under.store.describe(keyId)).toMatchObject({ state: 'deactivated' });
    expect((await under.store.decrypt(keyId, canary, { path: 'x' })).kind).toBe('opened');
    under.pass(60);
    expect((await under.store.decrypt(keyId, canary, { path: 'x' })).kind).toBe('refused');
  });

  it('never calls a denied permission, a broken service or a lost answer a refusal', async () => {
    const keyId = await makeKey(under);
    using plaintext = new Secret(randomBytes(32));
    const canary = await under.store.encrypt(keyId, plaintext, { path: 'x' });
    await under.store.disable(permit(ROTATION, keyId).read);
    for (const [kind, reason] of [
      ['refuse', 'PermissionDenied'],
      ['server-error', 'ServerError'],
      ['throttle', 'Throttled'],
      ['lose-answer', 'Unreachable'],
    ] as const) {
      // A lost refusal is still lost: the lab breaks the connection only where it would have answered well.
      if (kind === 'lose-answer') await under.store.enable(permit(ROTATION, keyId).read);
      kms.trouble({ kind, operation: 'Decrypt' });
      expect(await reasonOf(under.store.decrypt(keyId, canary, { path: 'x' }))).toBe(reason);
    }
  });

  it('records with a refusal its name, its request id, the key and the time', async () => {
    const keyId = await makeKey(under);
    using plaintext = new Secret(randomBytes(32));
    const canary = await under.store.encrypt(keyId, plaintext, { path: 'x' });
    await under.store.disable(permit(ROTATION, keyId).read);
    const refused = await under.store.decrypt(keyId, canary, { path: 'x' });
    const detail = { keyId, at: instantOf(START), requestId: expect.stringMatching(/^[0-9a-f-]{36}$/) };
    expect(refused).toEqual({ kind: 'refused', answer: { status: 400, type: 'DisabledException', detail } });
  });

  it('takes a key that is pending deletion for deactivated and refused, and one that is gone for not there', async () => {
    const keyId = await makeKey(under);
    using plaintext = new Secret(randomBytes(32));
    const canary = await under.store.encrypt(keyId, plaintext, { path: 'x' });
    await call(kms, 'ScheduleKeyDeletion', { KeyId: keyId, PendingWindowInDays: 7 });
    expect(await under.store.describe(keyId)).toEqual({ keyId, state: 'deactivated', destruction: { at: instantOf(START + 7 * 86_400_000) } });
    expect(await under.store.decrypt(keyId, canary, { path: 'x' })).toMatchObject({ kind: 'refused', answer: { type: 'KMSInvalidStateException' } });
    under.pass(8 * 86_400);
    expect(await under.store.describe(keyId)).toBeNull();
    expect(await reasonOf(under.store.decrypt(keyId, canary, { path: 'x' }))).toBe('NotFound');
  });

  it('finds its keys on every page of a listing, and when it knows which keys are others’', async () => {
    await under.close();
    under = await openStores({ pageMax: 2 });
    const made = [];
    for (let count = 0; count < 5; count += 1) {
      await call(under.kms, 'CreateKey', { Description: 'somebody else’s' });
      made.push({ keyId: await makeKey(under), state: 'active', destruction: null });
    }
    const keys = made.sort((a, b) => (a.keyId < b.keyId ? -1 : 1));
    expect(await under.store.find(ROTATION)).toEqual(keys);
    under.pass(901);
    expect(await under.store.find(ROTATION)).toEqual(keys);
    expect(await under.store.find(ROTATION)).toEqual(keys);
  });

  it('finds a key whose tags are seen only after it was listed', async () => {
    await under.close();
    under = await openStores({ tagLagMilliseconds: 300_000 });
    await under.store.create(permit(ROTATION).read);
    for (const seconds of [0, 100, 199]) {
      under.pass(seconds);
      expect(await under.store.find(ROTATION)).toEqual([]);
    }
    under.pass(1);
    expect(await under.store.find(ROTATION)).toHaveLength(1);
  });

  it('asks no more about keys that are somebody else’s, and goes nowhere where it may not see a key’s tags', async () => {
    const refusedAtFirst = async () => {
      kms.trouble({ kind: 'refuse', operation: 'ListResourceTags' });
      return reasonOf(under.store.find(ROTATION));
    };
    await call(kms, 'CreateKey', { Description: 'somebody else’s' });
    expect(await refusedAtFirst()).toBe('PermissionDenied');
    await under.store.find(ROTATION);
    under.pass(901);
    await under.store.find(ROTATION);
    expect(await refusedAtFirst()).toBe('done');
  });

  it('finds both twins', async () => {
    const keyIds = [await makeKey(under), await makeKey(under)].sort();
    expect((await under.store.find(ROTATION)).map(({ keyId }) => keyId)).toEqual(keyIds);
  });

  it('names the key in every decryption, so that the service itself refuses another key’s ciphertext', async () => {
    const [keyId, other] = [await makeKey(under), await makeKey(under)];
    using plaintext = new Secret(randomBytes(32));
    const sealed = await under.store.encrypt(keyId, plaintext, { path: 'x' });
    expect(await reasonOf(under.store.decrypt(other, sealed, { path: 'x' }))).toBe('InvalidRequest');
  });

  it('asks for leave only once it has credentials', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', '');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', '');
    vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent');
    vi.stubEnv('AWS_CONFIG_FILE', '/nonexistent');
    let asked = 0;
    const read = async () => {
      asked += 1;
      return fenced();
    };
    expect(await reasonOf(under.open('test').create(read))).toBe('Unauthenticated');
    expect(asked).toBe(0);
  });

  it('says Unreachable where nobody listens, and UnexpectedAnswer where something else does', async () => {
    await under.close();
    const { read, answers } = permit(ROTATION);
    expect(await reasonOf(under.store.create(read))).toBe('Unreachable');
    expect(answers).toEqual([]);
    const other = createServer((_, response) => response.writeHead(418, { 'content-type': 'text/plain' }).end('teapot'));
    other.listen(0, '127.0.0.1');
    await once(other, 'listening');
    onTestFinished(() => void other.close());
    const address = other.address();
    const endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`;
    const config = awsKmsSchema.parse({ kind: 'aws-kms', region: 'eu-central-1', endpoint });
    const store = openAwsKms('other', config, { installation: 'test', clock: async () => instantOf(START) });
    expect(await reasonOf(store.describe('x'))).toBe('UnexpectedAnswer');
    under = await openStores();
  });

  it('reaches anything but loopback over TLS only', () => {
    const accepted = [
      'https://kms.eu-central-1.example',
      'http://127.0.0.1:4',
      'http://[::1]:4',
      'http://kms.example',
      'ftp://127.0.0.1',
      'http://127.0.0.1.example',
    ].map((endpoint) => awsKmsSchema.safeParse({ kind: 'aws-kms', region: 'eu-central-1', endpoint }).success);
    expect(accepted).toEqual([true, true, true, false, false, false]);
  });
});

/** One call straight to the lab, for what the port does not offer. */
async function call(kms: LabKms, operation: string, input: Readonly<Record<string, unknown>>): Promise<void> {
  const response = await fetch(kms.url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `TrentService.${operation}`, authorization: 'AWS4-HMAC-SHA256 Credential=x' },
    body: JSON.stringify(input),
  });
  expect(response.status).toBe(200);
}
