import { generateKeyPairSync } from 'node:crypto';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { digestOf } from '#src/digest.ts';
import { type ParsedDocument, parseDocument } from '#src/domain/documents/parse.ts';
import { admittedImages, initDataClaim, readInitData } from '#src/domain/init-data.ts';
import type { Json } from '#src/domain/json.ts';
import { readPointer } from '#src/domain/pointer.ts';
import { verifyTrust } from '#src/domain/trust.ts';
import { type Codec, DEFAULT_CODEC } from '#src/envelope/codec.ts';
import { baselineText, daysAfter, deploymentOf, imageOf, initDataText, releaseText, revocationText, trustText } from '#src/lab/documents.ts';

const EXPIRES = daysAfter(Date.UTC(2026, 10, 23), 30);
const KBS_URL = 'http://127.0.0.1:8443';

function releaseOf(serial: number, codec: Codec = DEFAULT_CODEC): string {
  const initData = initDataText({ kbsUrl: KBS_URL, image: imageOf(serial) });
  return releaseText({
    serial,
    previous: serial === 1 ? null : digestOf('the release before'),
    expires: EXPIRES,
    modelFolder: '/models/1',
    manifestDigest: digestOf('manifest'),
    soakSeconds: 0,
    codec,
    initData: { file: `guests/chat/${serial}.toml`, digest: digestOf(initData) },
  });
}

/** As the product reads it; a refusal fails the test with its reason. */
function read<K extends ParsedDocument['kind']>(path: string, text: string, kind: K): Extract<ParsedDocument, { kind: K }> {
  const parsed = parseDocument(path, Buffer.from(text));
  if (parsed.kind === 'bad') throw new Error(`${parsed.reason}: ${parsed.about}`);
  if (parsed.document.kind !== kind) throw new Error(`it is a ${parsed.document.kind}`);
  return parsed.document as Extract<ParsedDocument, { kind: K }>;
}

function deployment(): Json {
  return JSON.parse(JSON.stringify(deploymentOf()));
}

function people() {
  const pem = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'pem', type: 'spki' }).toString();
  return ['a', 'b', 'c'].map((id) => ({ id, publicKeyPem: pem() }));
}

test('an expiry is written in whole seconds', () => {
  expect(EXPIRES).toBe('2026-12-23T00:00:00Z');
});

test('a release under KServe’s codec is one that this version carries out', () => {
  expect(read('releases/chat/1.yaml', releaseOf(1, 'kserve-jwe'), 'Release').artifact.codec).toBe('kserve-jwe');
});

test('both releases of the story are read as releases, and differ in what a guest is measured by', () => {
  const [first, second] = [1, 2].map((serial) => read(`releases/chat/${serial}.yaml`, releaseOf(serial), 'Release'));
  expect(first?.guests.sample?.referenceValues).toEqual({ svn: ['1'] });
  expect(second?.guests.sample?.referenceValues).toEqual({ svn: ['2'] });
  expect(second?.images).not.toEqual(first?.images);
});

test('a guest’s init-data names the proxy, and admits the release’s image alone', () => {
  const toml = initDataText({ kbsUrl: KBS_URL, image: imageOf(1) });
  const { kbsUrl, imagePolicy } = readInitData(toml);
  expect(kbsUrl).toBe(KBS_URL);
  expect(imagePolicy?.kind === 'inline' && admittedImages(imagePolicy.policy)).toEqual([imageOf(1)]);
  expect(initDataClaim(toml, 'sample')).not.toBe(initDataClaim(initDataText({ kbsUrl: KBS_URL, image: imageOf(2) }), 'sample'));
});

test('every field that a release sets is in the deployment that its owner made, so that a patch finds its place', () => {
  for (const target of read('releases/chat/1.yaml', releaseOf(1), 'Release').targets) {
    for (const pointer of Object.keys(target.set)) expect(readPointer(deployment(), pointer), pointer).toBeDefined();
  }
});

test('the template at the start names no key', () => {
  expect(readPointer(deployment(), '/spec/template/spec/containers/name=chat/env/name=KEY_URI/value')).toBe('');
});

test('the trust document is accepted under its pin, and two of its three people approve', () => {
  const text = trustText(people(), EXPIRES);
  expect(read('trust/1.yaml', text, 'Trust').roles.approvers).toEqual([{ workloads: ['*'], threshold: 2, people: ['a', 'b', 'c'] }]);
  expect(verifyTrust({ path: 'trust/1.yaml', bytes: Buffer.from(text) }, digestOf(text)).kind).toBe('trusted');
});

test('the baseline takes the lab’s key broker over', () => {
  const baseline = read('baseline/main/1.yaml', baselineText(), 'Baseline');
  expect(baseline).toMatchObject({ takeover: true, referenceValues: { launch_digest: ['abcde'], major_version: 1, minimum_minor_version: 1 } });
});

test('the revocation that a person is offered is one', () => {
  const revocation = read('revocations/leaked-key.yaml', revocationText('leaked-key', 2), 'Revocation');
  expect(revocation.subject).toEqual({ kind: 'key', workload: 'chat', epoch: 2 });
});

test('no document has an anchor or an alias, which the strict parser refuses', () => {
  const texts = [trustText(people(), EXPIRES), baselineText(), releaseOf(1), revocationText('leaked-key', 2)];
  for (const text of texts) expect(text).not.toMatch(/[&*][a-z]\d/);
  expect(texts.map((text) => parse(text).apiVersion)).toEqual(texts.map(() => 'keyturn.dev/v1alpha1'));
});
