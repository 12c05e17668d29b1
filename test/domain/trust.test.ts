import { createPublicKey, ECDH } from 'node:crypto';
import { expect, it } from 'vitest';
import { digestOf } from '#src/digest.ts';
import { verifyTrust } from '#src/domain/trust.ts';
import { makePerson, type Person, trustText } from '../documents/people.ts';

/** The same P-256 key, its point written in the compressed form (SEC 1 §2.3.3). */
function compressed({ publicPem }: Person): string {
  const der = createPublicKey(publicPem).export({ type: 'spki', format: 'der' });
  const head = Buffer.from(der.subarray(0, -65));
  const point = ECDH.convertKey(der.subarray(-65), 'prime256v1', undefined, undefined, 'compressed') as Buffer;
  // The lengths of the whole and of the bit string: both are 32 less.
  for (const at of [1, head.length - 2]) head.writeUInt8(head.readUInt8(at) - 32, at);
  return `-----BEGIN PUBLIC KEY-----\n${Buffer.concat([head, point]).toString('base64')}\n-----END PUBLIC KEY-----\n`;
}

it('a key belongs to one person, however its bytes are written', () => {
  const [ann, bob, cid] = ['ann', 'bob', 'cid'].map((id) => makePerson(id)) as [Person, Person, Person];
  const judged = (people: readonly Person[]): string => {
    const text = trustText(people);
    const said = verifyTrust({ path: 'trust/1.yaml', bytes: Buffer.from(text) }, digestOf(text));
    return said.kind === 'bad' ? said.reason : said.kind;
  };
  expect(judged([ann, { ...bob, publicPem: compressed(bob) }, cid])).toBe('trusted');
  expect(judged([ann, { ...bob, publicPem: compressed(ann) }, cid])).toBe('Malformed');
});
