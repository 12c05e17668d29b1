import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type LabKms, type LabKmsOptions, openLabKms } from '#src/lab/kms.ts';
import { testFolder } from '#test/envelope/folder.ts';

const NOW = 1_795_000_000_000;

interface Reply {
  readonly status: number;
  readonly requestId: string | null;
  readonly body: Readonly<Record<string, unknown>>;
}

async function open(options: Partial<LabKmsOptions> = {}): Promise<LabKms> {
  const kms = await openLabKms({ folder: null, clock: async () => NOW, ...options });
  onTestFinished(kms.close);
  return kms;
}

/** One call as the SDK writes it. */
async function call(
  kms: LabKms,
  operation: string,
  input: Readonly<Record<string, unknown>> = {},
  authorization = 'AWS4-HMAC-SHA256 Credential=x',
): Promise<Reply> {
  const response = await fetch(kms.url, {
    method: 'POST',
    headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': `TrentService.${operation}`, authorization },
    body: JSON.stringify(input),
  });
  const text = await response.text();
  return { status: response.status, requestId: response.headers.get('x-amzn-requestid'), body: text === '' ? {} : (JSON.parse(text) as Reply['body']) };
}

async function makeKey(kms: LabKms): Promise<string> {
  const { body } = await call(kms, 'CreateKey');
  return (body as { readonly KeyMetadata: { readonly Arn: string } }).KeyMetadata.Arn;
}

const plaintext = Buffer.from('a data key').toString('base64');

/** What each call says of a key in one state: AWS’s error name, or null where it is done. */
async function answers(kms: LabKms, KeyId: string, CiphertextBlob: unknown): Promise<Readonly<Record<string, unknown>>> {
  // Without the key’s id a disabled key refuses all the same.
  const withoutKeyId = (await call(kms, 'Decrypt', { CiphertextBlob })).body.__type ?? null;
  const calls = {
    Encrypt: { KeyId, Plaintext: plaintext },
    Decrypt: { KeyId, CiphertextBlob },
    GenerateDataKey: { KeyId, KeySpec: 'AES_256' },
    DescribeKey: { KeyId },
    ListResourceTags: { KeyId },
    CancelKeyDeletion: { KeyId },
  };
  const found: Record<string, unknown> = { DecryptWithoutKeyId: withoutKeyId };
  for (const [operation, input] of Object.entries(calls)) found[operation] = (await call(kms, operation, input)).body.__type ?? null;
  return found;
}

describe('the lab’s KMS answers as AWS’s table of key states says', () => {
  it('for each state', async () => {
    const kms = await open();
    const KeyId = await makeKey(kms);
    const { CiphertextBlob } = (await call(kms, 'Encrypt', { KeyId, Plaintext: plaintext })).body;
    const read = { DescribeKey: null, ListResourceTags: null };
    const all = (type: string | null) => ({ Encrypt: type, Decrypt: type, GenerateDataKey: type, DecryptWithoutKeyId: type });
    const notPending = { CancelKeyDeletion: 'KMSInvalidStateException' };
    expect(await answers(kms, KeyId, CiphertextBlob)).toEqual({ ...all(null), ...read, ...notPending });
    await call(kms, 'DisableKey', { KeyId });
    expect(await answers(kms, KeyId, CiphertextBlob)).toEqual({ ...all('DisabledException'), ...read, ...notPending });
    await call(kms, 'ScheduleKeyDeletion', { KeyId });
    for (const operation of ['EnableKey', 'DisableKey', 'ScheduleKeyDeletion']) {
      expect((await call(kms, operation, { KeyId })).body.__type).toBe('KMSInvalidStateException');
    }
    expect(await answers(kms, KeyId, CiphertextBlob)).toEqual({ ...all('KMSInvalidStateException'), ...read, CancelKeyDeletion: null });
    const { body } = await call(kms, 'DescribeKey', { KeyId });
    expect(body).toMatchObject({ KeyMetadata: { KeyState: 'Disabled' } });
    await call(kms, 'EnableKey', { KeyId });
    expect(await answers(kms, KeyId, CiphertextBlob)).toEqual({ ...all(null), ...read, ...notPending });
  });

  it('with a request id of its own on every answer', async () => {
    const kms = await open();
    const replies = [
      await call(kms, 'CreateKey'),
      await call(kms, 'DescribeKey', { KeyId: 'x' }),
      await call(kms, 'Nothing'),
      await call(kms, 'ListKeys', {}, ''),
    ];
    expect(replies.map(({ body }) => body.__type ?? null)).toEqual([
      null,
      'NotFoundException',
      'UnknownOperationException',
      'MissingAuthenticationTokenException',
    ]);
    expect(new Set(replies.map(({ requestId }) => requestId)).size).toBe(4);
    expect(replies.map(({ requestId }) => requestId)).not.toContain(null);
  });

  it('by the name for another key, another context and changed bytes', async () => {
    const kms = await open();
    const [KeyId, other] = [await makeKey(kms), await makeKey(kms)];
    const EncryptionContext = { path: 'a', release: 'b' };
    const { CiphertextBlob } = (await call(kms, 'Encrypt', { KeyId, Plaintext: plaintext, EncryptionContext })).body;
    const decrypt = async (input: Readonly<Record<string, unknown>>) =>
      (await call(kms, 'Decrypt', { KeyId, CiphertextBlob, EncryptionContext, ...input })).body;
    expect((await decrypt({ EncryptionContext: { release: 'b', path: 'a' } })).Plaintext).toBe(plaintext);
    expect((await decrypt({ KeyId: other })).__type).toBe('IncorrectKeyException');
    expect(await decrypt({ EncryptionContext: { path: 'a' } })).toMatchObject({ __type: 'InvalidCiphertextException', message: '' });
    const changed = Buffer.from(String(CiphertextBlob), 'base64');
    changed[changed.length - 1] = (changed[changed.length - 1] ?? 0) ^ 1;
    expect((await decrypt({ CiphertextBlob: changed.toString('base64') })).__type).toBe('InvalidCiphertextException');
  });

  it('within AWS’s limits', async () => {
    const kms = await open();
    const KeyId = await makeKey(kms);
    const type = async (operation: string, input: Readonly<Record<string, unknown>>) => (await call(kms, operation, { KeyId, ...input })).body.__type;
    expect(await type('Encrypt', { Plaintext: Buffer.alloc(4097).toString('base64') })).toBe('ValidationException');
    expect(await type('ScheduleKeyDeletion', { PendingWindowInDays: 6 })).toBe('ValidationException');
    expect(await type('CreateKey', { Tags: [{ TagKey: 'a*b', TagValue: '' }] })).toBe('TagException');
    expect(await type('ListKeys', { Limit: 1001 })).toBe('ValidationException');
  });
});

describe('the lab’s KMS', () => {
  it('has the same keys after it was started again, in a file that only we can read', async () => {
    const folder = testFolder();
    const first = await openLabKms({ folder });
    const KeyId = await makeKey(first);
    const { CiphertextBlob } = (await call(first, 'Encrypt', { KeyId, Plaintext: plaintext })).body;
    await call(first, 'CreateAlias', { AliasName: 'alias/a', TargetKeyId: KeyId });
    await call(first, 'DisableKey', { KeyId });
    await first.close();
    const second = await open({ folder });
    expect((await call(second, 'Decrypt', { KeyId, CiphertextBlob })).body.__type).toBe('DisabledException');
    await call(second, 'EnableKey', { KeyId: 'alias/a' });
    expect((await call(second, 'Decrypt', { KeyId, CiphertextBlob })).body.Plaintext).toBe(plaintext);
    expect(statSync(join(folder, 'kms.json')).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(join(folder, 'kms.json'), 'utf8'))).toMatchObject({ keys: [{ state: 'Enabled' }] });
  });

  it('lists a key only when the listing has caught up, and describes it at once', async () => {
    let now = NOW;
    const kms = await open({ clock: async () => now, listLagMilliseconds: 1000 });
    const KeyId = await makeKey(kms);
    expect((await call(kms, 'ListKeys')).body.Keys).toEqual([]);
    expect((await call(kms, 'DescribeKey', { KeyId })).status).toBe(200);
    now += 1000;
    expect((await call(kms, 'ListKeys')).body.Keys).toHaveLength(1);
  });

  it('gives a long list page by page, each key once', async () => {
    const kms = await open();
    const made = [];
    for (let count = 0; count < 7; count += 1) made.push(await makeKey(kms));
    const listed: unknown[] = [];
    let marker: unknown;
    do {
      const { body } = await call(kms, 'ListKeys', { Limit: 3, ...(marker === undefined ? {} : { Marker: marker }) });
      listed.push(...(body.Keys as readonly { KeyArn: string }[]).map(({ KeyArn }) => KeyArn));
      marker = body.NextMarker;
    } while (marker !== undefined);
    expect(listed.sort()).toEqual(made.sort());
  });

  it('deletes a key for good when its window is over', async () => {
    let now = NOW;
    const kms = await open({ clock: async () => now });
    const KeyId = await makeKey(kms);
    await call(kms, 'ScheduleKeyDeletion', { KeyId, PendingWindowInDays: 7 });
    now += 7 * 86_400_000 - 1;
    expect((await call(kms, 'DescribeKey', { KeyId })).status).toBe(200);
    now += 1;
    expect((await call(kms, 'DescribeKey', { KeyId })).body.__type).toBe('NotFoundException');
  });

  it('loses an answer after the effect, and lets each trouble befall one call', async () => {
    const kms = await open();
    kms.trouble({ kind: 'lose-answer', operation: 'CreateKey' });
    await expect(call(kms, 'CreateKey')).rejects.toThrow();
    expect((await call(kms, 'ListKeys')).body.Keys).toHaveLength(1);
    kms.trouble({ kind: 'server-error', operation: 'CreateKey' });
    expect((await call(kms, 'CreateKey')).status).toBe(500);
    expect((await call(kms, 'ListKeys')).body.Keys).toHaveLength(1);
    expect((await call(kms, 'CreateKey')).status).toBe(200);
  });
});
