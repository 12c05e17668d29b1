import { createHash } from 'node:crypto';
import {
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type LabS3, openLabS3 } from '#src/lab/s3.ts';
import { testFolder } from '#test/envelope/folder.ts';

const MiB = 1024 * 1024;
const Bucket = 'models';

let lab: LabS3;
let client: S3Client;
const open = (secretAccessKey = 'lab', accessKeyId = 'lab'): S3Client =>
  new S3Client({
    region: 'eu-central-1',
    endpoint: lab.url,
    forcePathStyle: true,
    credentials: { accessKeyId, secretAccessKey },
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
beforeEach(async () => {
  lab = await openLabS3({ folder: testFolder(), bucket: Bucket, pageMax: 2 });
  client = open();
});
afterEach(async () => {
  client.destroy();
  await lab.close();
});

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('base64');
const put = (Key: string, Body = Buffer.from('x'), more: object = {}) => client.send(new PutObjectCommand({ Bucket, Key, Body, ...more }));
/** The name of the error that a call ends with; 'done' where it ends well. */
const errorOf = async (call: Promise<unknown>): Promise<string> =>
  call.then(
    () => 'done',
    (error: unknown) => (error instanceof Error ? error.name : String(error)),
  );

describe('the lab’s S3 takes a request', () => {
  it('that is signed with its credentials, for the very bytes that came, and not for another time', async () => {
    expect(await errorOf(put('a'))).toBe('done');
    expect(await errorOf(open('other').send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'x' })))).toBe('SignatureDoesNotMatch');
    expect(await errorOf(open('lab', 'other').send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'x' })))).toBe('InvalidAccessKeyId');
    const changed = open();
    changed.middlewareStack.add(
      (next) => (args) => {
        Object.assign(args.request as object, { body: 'y' });
        return next(args);
      },
      { step: 'deserialize' },
    );
    expect(await errorOf(changed.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'x' })))).toBe('XAmzContentSHA256Mismatch');
    const unsigned = open();
    unsigned.middlewareStack.add(
      (next) => (args) => {
        Object.assign((args.request as { headers: object }).headers, { 'x-amz-storage-class': 'GLACIER' });
        return next(args);
      },
      { step: 'deserialize' },
    );
    expect(await errorOf(unsigned.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'x' })))).toBe('AccessDenied');
    const old = open();
    Object.assign(old.config, { systemClockOffset: -3_600_000 });
    expect(await errorOf(old.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'x' })))).toBe('RequestTimeTooSkewed');
  });

  it('without a signature only to read an object: ciphertext is public', async () => {
    await put('w/a b', Buffer.from('hello'));
    const statusOf = async (method: string, path: string) => (await fetch(`${lab.url}/${path}`, { method })).status;
    expect(await (await fetch(`${lab.url}/${Bucket}/w/a%20b`, { headers: { range: 'bytes=1-2' } })).text()).toBe('el');
    expect([await statusOf('HEAD', `${Bucket}/w/a%20b`), await statusOf('GET', `${Bucket}/w/none`), await statusOf('GET', 'others/w/a%20b')]).toEqual([
      200, 404, 404,
    ]);
    expect([await statusOf('GET', `${Bucket}?list-type=2`), await statusOf('DELETE', `${Bucket}/w/a%20b`), await statusOf('PUT', `${Bucket}/b`)]).toEqual([
      403, 403, 403,
    ]);
  });
});

describe('the lab’s S3 keeps an object', () => {
  it('under conditions: none there, or this very one', async () => {
    const { ETag } = await put('a');
    expect(await errorOf(put('a', Buffer.from('y'), { IfNoneMatch: '*' }))).toBe('PreconditionFailed');
    expect(await errorOf(put('a', Buffer.from('y'), { IfMatch: '"other"' }))).toBe('PreconditionFailed');
    expect(await errorOf(put('b', Buffer.from('y'), { IfMatch: ETag }))).toBe('NoSuchKey');
    expect(await errorOf(put('a', Buffer.from('y'), { IfMatch: ETag }))).toBe('done');
    expect(await errorOf(put('b', Buffer.from('y'), { IfNoneMatch: '*' }))).toBe('done');
  });

  it('whose checksum is right, and tells it when it is asked', async () => {
    const body = Buffer.from('hello');
    expect(await errorOf(put('a', body, { ChecksumSHA256: sha256(Buffer.from('other')) }))).toBe('BadDigest');
    expect((await put('a', body, { ChecksumSHA256: sha256(body) })).ChecksumSHA256).toBe(sha256(body));
    expect((await client.send(new HeadObjectCommand({ Bucket, Key: 'a', ChecksumMode: 'ENABLED' }))).ChecksumSHA256).toBe(sha256(body));
  });

  it('and gives any range of it, of the object that was asked for', async () => {
    const { ETag } = await put('a', Buffer.from('0123456789'));
    const read = async (Range: string, IfMatch = ETag) => {
      const found = await client.send(new GetObjectCommand({ Bucket, Key: 'a', Range, IfMatch }));
      return [await found.Body?.transformToString(), found.ContentRange];
    };
    expect(await read('bytes=3-5')).toEqual(['345', 'bytes 3-5/10']);
    expect(await read('bytes=8-')).toEqual(['89', 'bytes 8-9/10']);
    expect(await read('bytes=8-99')).toEqual(['89', 'bytes 8-9/10']);
    expect(await errorOf(read('bytes=10-'))).toBe('InvalidRange');
    expect(await errorOf(read('bytes=0-', '"other"'))).toBe('PreconditionFailed');
  });

  it('until it is deleted, and lists page by page', async () => {
    for (const key of ['w/a', 'w/b', 'w/c', 'v/a']) await put(key);
    const first = await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'w/' }));
    expect([first.Contents?.map(({ Key }) => Key), first.IsTruncated]).toEqual([['w/a', 'w/b'], true]);
    const rest = await client.send(new ListObjectsV2Command({ Bucket, Prefix: 'w/', ContinuationToken: first.NextContinuationToken }));
    expect([rest.Contents?.map(({ Key }) => Key), rest.IsTruncated]).toEqual([['w/c'], false]);
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'w/a' }));
    expect(await errorOf(client.send(new DeleteObjectCommand({ Bucket, Key: 'w/a' })))).toBe('done');
    expect(await errorOf(client.send(new GetObjectCommand({ Bucket, Key: 'w/a' })))).toBe('NoSuchKey');
  });
});

describe('the lab’s S3 puts parts together', () => {
  const begin = async (Key = 'a'): Promise<string> =>
    (await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ChecksumAlgorithm: 'SHA256' }))).UploadId ?? '';
  const part = async (UploadId: string, PartNumber: number, Body: Buffer, Key = 'a') => {
    const { ETag } = await client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ChecksumSHA256: sha256(Body) }));
    return { PartNumber, ETag, ChecksumSHA256: sha256(Body) };
  };
  const complete = (UploadId: string, Parts: readonly object[], more: object = {}) =>
    client.send(new CompleteMultipartUploadCommand({ Bucket, Key: 'a', UploadId, MultipartUpload: { Parts: [...Parts] }, ...more }));

  it('that are all there, in order, long enough, and the same that were sent; nothing is seen before', async () => {
    const id = await begin();
    const [one, two] = [await part(id, 1, Buffer.alloc(5 * MiB, 1)), await part(id, 2, Buffer.from('end'))];
    expect(await errorOf(client.send(new HeadObjectCommand({ Bucket, Key: 'a' })))).toBe('NotFound');
    expect(await errorOf(complete(id, [two, one]))).toBe('InvalidPartOrder');
    expect(await errorOf(complete(id, [one, { ...two, PartNumber: 3 }]))).toBe('InvalidPart');
    expect(await errorOf(complete(id, [one, { ...two, ETag: one.ETag }]))).toBe('InvalidPart');
    expect(await errorOf(complete(id, [one, { ...two, ChecksumSHA256: one.ChecksumSHA256 }]))).toBe('InvalidPart');
    expect(await errorOf(complete(id, [one, two], { MpuObjectSize: 17 }))).toBe('InvalidRequest');
    const short = await part(id, 1, Buffer.from('short'));
    expect(await errorOf(complete(id, [short, two]))).toBe('EntityTooSmall');
    const again = await part(id, 1, Buffer.alloc(5 * MiB, 1));
    await put('a', Buffer.from('first'));
    expect(await errorOf(complete(id, [again, two], { IfNoneMatch: '*' }))).toBe('PreconditionFailed');
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'a' }));
    expect(await errorOf(complete(id, [again, two], { IfNoneMatch: '*' }))).toBe('done');
    expect(await errorOf(complete(id, [again, two]))).toBe('NoSuchUpload');
    expect((await client.send(new HeadObjectCommand({ Bucket, Key: 'a' }))).ContentLength).toBe(5 * MiB + 3);
  });

  it('and lists uploads and parts page by page', async () => {
    const ids = [await begin(), await begin(), await begin('b')];
    const first = await client.send(new ListMultipartUploadsCommand({ Bucket }));
    const markers = { KeyMarker: first.NextKeyMarker, UploadIdMarker: first.NextUploadIdMarker };
    const rest = await client.send(new ListMultipartUploadsCommand({ Bucket, ...markers }));
    expect([...(first.Uploads ?? []), ...(rest.Uploads ?? [])].map(({ UploadId }) => UploadId).sort()).toEqual([...ids].sort());
    expect(rest.IsTruncated).toBe(false);
    const id = ids[2] ?? '';
    for (const number of [1, 2, 3]) await part(id, number, Buffer.from([number]), 'b');
    const parts = await client.send(new ListPartsCommand({ Bucket, Key: 'b', UploadId: id }));
    const more = await client.send(new ListPartsCommand({ Bucket, Key: 'b', UploadId: id, PartNumberMarker: parts.NextPartNumberMarker }));
    expect([...(parts.Parts ?? []), ...(more.Parts ?? [])].map(({ PartNumber, ChecksumSHA256 }) => [PartNumber, ChecksumSHA256])).toEqual(
      [1, 2, 3].map((number) => [number, sha256(Buffer.from([number]))]),
    );
  });
});
