import { createHash } from 'node:crypto';
import { s3Failure } from './s3-failure.ts';
import type { Signed } from './s3-signature.ts';
import type { ClaimedPart, Condition, S3Store, StoredObject, StoredUpload } from './s3-store.ts';

/** The most that S3 lists at once. */
const PAGE_MAX = 1000;

/** What S3's documentation calls a request. */
export type S3Operation =
  | 'AbortMultipartUpload'
  | 'CompleteMultipartUpload'
  | 'CreateMultipartUpload'
  | 'DeleteObject'
  | 'GetObject'
  | 'HeadBucket'
  | 'HeadObject'
  | 'ListMultipartUploads'
  | 'ListObjectsV2'
  | 'ListParts'
  | 'PutObject'
  | 'UploadPart';

/** An answer; `body` may be read as it goes. */
export interface S3Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | AsyncIterable<Buffer>;
}

/** A request to one bucket. */
export interface Call extends Signed {
  readonly store: S3Store;
  /** Decoded; '' for the bucket itself. */
  readonly key: string;
  readonly pageMax: number;
  /** Left out of lists, though they are there. */
  readonly hidden: ReadonlySet<string>;
}

/** What a request is; null for what this server does not know. */
export function operationOf(method: string, key: string, query: URLSearchParams): S3Operation | null {
  const on = key === '' ? 'bucket' : query.has('uploadId') ? 'upload' : query.has('uploads') ? 'uploads' : 'object';
  switch (`${method} ${on}`) {
    case 'HEAD bucket':
      return 'HeadBucket';
    case 'GET bucket':
      return query.has('uploads') ? 'ListMultipartUploads' : query.get('list-type') === '2' ? 'ListObjectsV2' : null;
    case 'PUT object':
      return 'PutObject';
    case 'GET object':
      return 'GetObject';
    case 'HEAD object':
      return 'HeadObject';
    case 'DELETE object':
      return 'DeleteObject';
    case 'POST uploads':
      return 'CreateMultipartUpload';
    case 'PUT upload':
      return query.has('partNumber') ? 'UploadPart' : null;
    case 'POST upload':
      return 'CompleteMultipartUpload';
    case 'DELETE upload':
      return 'AbortMultipartUpload';
    case 'GET upload':
      return 'ListParts';
    default:
      return null;
  }
}

/** Carries a request out. Throws S3Failure. */
export async function carryOut(operation: S3Operation, call: Call): Promise<S3Answer> {
  const { store, key, body, headers } = call;
  switch (operation) {
    case 'HeadBucket':
      return answer(200);
    case 'ListObjectsV2':
      return listObjects(call);
    case 'ListMultipartUploads':
      return listUploads(call);
    case 'PutObject':
      return writtenAnswer(await store.put(key, body, checksumOf(call), conditionOf(headers)));
    case 'HeadObject':
    case 'GetObject':
      return readObject(call, operation === 'HeadObject');
    case 'DeleteObject':
      store.objects.delete(key);
      return answer(204);
    case 'CreateMultipartUpload': {
      const algorithm = headers['x-amz-checksum-algorithm'] ?? null;
      if (algorithm !== null && algorithm !== 'SHA256') throw s3Failure(501, 'NotImplemented', 'checksums: SHA256 alone');
      const { id } = store.begin(key, algorithm !== null);
      return xml('InitiateMultipartUploadResult', `<Key>${escaped(key)}</Key><UploadId>${id}</UploadId>`);
    }
    case 'UploadPart':
      return uploadPart(call);
    case 'ListParts':
      return listParts(call);
    case 'CompleteMultipartUpload': {
      const size = headers['x-amz-mp-object-size'];
      const object = store.complete(uploadOf(call), claimedIn(body.toString('utf8')), size === undefined ? null : Number(size), conditionOf(headers));
      return xml('CompleteMultipartUploadResult', `<Key>${escaped(key)}</Key><ETag>${escaped(object.etag)}</ETag>${checksumElement(object.checksum)}`);
    }
    case 'AbortMultipartUpload':
      store.abort(uploadOf(call));
      return answer(204);
  }
}

async function uploadPart(call: Call): Promise<S3Answer> {
  const number = Number(call.query.get('partNumber'));
  if (!Number.isInteger(number) || number < 1 || number > 10_000) throw s3Failure(400, 'InvalidArgument', 'partNumber');
  const upload = uploadOf(call);
  const checksum = checksumOf(call);
  if (upload.checksummed && checksum === null) throw s3Failure(400, 'InvalidRequest', 'the upload wants a checksum of every part');
  return writtenAnswer(await call.store.part(upload, number, call.body, checksum));
}

function writtenAnswer({ etag, checksum }: Pick<StoredObject, 'etag' | 'checksum'>): S3Answer {
  return answer(200, { etag, ...(checksum === null ? {} : { 'x-amz-checksum-sha256': checksum }) });
}

function readObject({ store, key, headers }: Call, headOnly: boolean): S3Answer {
  const object = store.objects.get(key);
  if (object === undefined) throw s3Failure(404, 'NoSuchKey');
  if (headers['if-match'] !== undefined && headers['if-match'] !== object.etag) throw s3Failure(412, 'PreconditionFailed');
  const said = headers['x-amz-checksum-mode'] === 'ENABLED' && object.checksum !== null ? { 'x-amz-checksum-sha256': object.checksum } : {};
  const common = { etag: object.etag, 'accept-ranges': 'bytes', 'content-type': 'application/octet-stream', ...said };
  const asked = headers.range === undefined ? null : /^bytes=(\d+)-(\d*)$/.exec(headers.range);
  const whole = asked === null;
  const from = whole ? 0 : Number(asked[1]);
  const to = Math.min(whole || asked[2] === '' ? object.sizeBytes - 1 : Number(asked[2]), object.sizeBytes - 1);
  if (!whole && (from > to || from >= object.sizeBytes)) throw s3Failure(416, 'InvalidRange');
  const length = { 'content-length': String(to + 1 - from) };
  const range = whole ? {} : { 'content-range': `bytes ${from}-${to}/${object.sizeBytes}` };
  return { status: whole ? 200 : 206, headers: { ...common, ...length, ...range }, body: headOnly ? '' : store.read(object, from, to) };
}

function listObjects({ store, query, pageMax, hidden }: Call): S3Answer {
  const prefix = query.get('prefix') ?? '';
  const after = Buffer.from(query.get('continuation-token') ?? '', 'base64url').toString('utf8');
  const keys = [...store.objects.keys()].filter((key) => key.startsWith(prefix) && key > after && !hidden.has(key)).sort();
  const page = keys.slice(0, Math.min(pageMax, PAGE_MAX));
  const items = page.map((key) => {
    const { etag, sizeBytes } = store.objects.get(key) ?? { etag: '', sizeBytes: 0 };
    return `<Contents><Key>${escaped(key)}</Key><ETag>${escaped(etag)}</ETag><Size>${sizeBytes}</Size></Contents>`;
  });
  const more = page.length < keys.length;
  const next = more ? `<NextContinuationToken>${Buffer.from(page.at(-1) ?? '').toString('base64url')}</NextContinuationToken>` : '';
  return xml('ListBucketResult', `<IsTruncated>${more}</IsTruncated>${next}<KeyCount>${page.length}</KeyCount>${items.join('')}`);
}

function listUploads({ store, query, pageMax }: Call): S3Answer {
  const prefix = query.get('prefix') ?? '';
  const sorted = [...store.uploads.values()].filter(({ key }) => key.startsWith(prefix)).sort((a, b) => (`${a.key} ${a.id}` < `${b.key} ${b.id}` ? -1 : 1));
  const marker = `${query.get('key-marker') ?? ''} ${query.get('upload-id-marker') ?? ''}`;
  const rest = query.has('key-marker') ? sorted.filter(({ key, id }) => `${key} ${id}` > marker) : sorted;
  const page = rest.slice(0, Math.min(pageMax, PAGE_MAX));
  const last = page.at(-1);
  const more = page.length < rest.length && last !== undefined;
  const next = more ? `<NextKeyMarker>${escaped(last.key)}</NextKeyMarker><NextUploadIdMarker>${last.id}</NextUploadIdMarker>` : '';
  const items = page.map(({ key, id }) => `<Upload><Key>${escaped(key)}</Key><UploadId>${id}</UploadId></Upload>`);
  return xml('ListMultipartUploadsResult', `<IsTruncated>${more}</IsTruncated>${next}${items.join('')}`);
}

function listParts(call: Call): S3Answer {
  const marker = Number(call.query.get('part-number-marker') ?? 0);
  const rest = [...uploadOf(call).parts].filter(([number]) => number > marker).sort(([a], [b]) => a - b);
  const page = rest.slice(0, Math.min(call.pageMax, PAGE_MAX));
  const more = page.length < rest.length;
  const items = page.map(([number, { etag, sizeBytes, checksum }]) => {
    return `<Part><PartNumber>${number}</PartNumber><ETag>${escaped(etag)}</ETag><Size>${sizeBytes}</Size>${checksumElement(checksum)}</Part>`;
  });
  const next = more ? `<NextPartNumberMarker>${page.at(-1)?.[0]}</NextPartNumberMarker>` : '';
  return xml('ListPartsResult', `<IsTruncated>${more}</IsTruncated>${next}${items.join('')}`);
}

function uploadOf({ store, key, query }: Call): StoredUpload {
  const upload = store.uploads.get(query.get('uploadId') ?? '');
  if (upload === undefined || upload.key !== key) throw s3Failure(404, 'NoSuchUpload');
  return upload;
}

/** The checksum that came with a body, where one did: it has to be right. */
function checksumOf({ headers, body }: Call): string | null {
  const said = headers['x-amz-checksum-sha256'];
  if (said === undefined) return null;
  if (said !== createHash('sha256').update(body).digest('base64')) throw s3Failure(400, 'BadDigest');
  return said;
}

function conditionOf(headers: Call['headers']): Condition {
  return { ifMatch: headers['if-match'] ?? null, ifNoneMatch: headers['if-none-match'] ?? null };
}

/** The parts that a CompleteMultipartUpload names, in the form that the SDK writes. */
function claimedIn(text: string): readonly ClaimedPart[] {
  const element = (part: string, name: string): string | null => new RegExp(`<${name}>([^<]*)</${name}>`).exec(part)?.[1]?.replaceAll('&quot;', '"') ?? null;
  return [...text.matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, part = '']) => {
    return { number: Number(element(part, 'PartNumber')), etag: element(part, 'ETag') ?? '', checksum: element(part, 'ChecksumSHA256') };
  });
}

function checksumElement(checksum: string | null): string {
  return checksum === null ? '' : `<ChecksumSHA256>${checksum}</ChecksumSHA256>`;
}

function answer(status: number, headers: Readonly<Record<string, string>> = {}): S3Answer {
  return { status, headers, body: '' };
}

function xml(name: string, inner: string): S3Answer {
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<${name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${inner}</${name}>`;
  return { status: 200, headers: { 'content-type': 'application/xml' }, body };
}

/** Text in XML. */
export function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
