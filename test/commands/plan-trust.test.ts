import { expect, it } from 'vitest';
import { planOf } from '#src/commands/plan.ts';
import { makePerson, signedBy, trustText } from '../documents/people.ts';
import { ann, bob, cid, releaseFiles, withStand } from './stand.ts';

const dot = makePerson('dot');
const NEXT = trustText([bob, cid, dot], { version: 2 });

it('tells what becomes of the next trust document, and judges what comes with it under that one', async () => {
  await withStand(async (stand) => {
    const release = await releaseFiles(1, { previous: null, signers: [cid, dot] });
    await stand.propose({ ...(await signedBy('trust/2.yaml', NEXT, [ann, bob, dot])), ...release });
    const plan = await planOf(stand.config, { ref: 'refs/pull/7/head' });
    expect(plan).toMatchObject({ refused: false, documents: [{ path: 'trust/2.yaml', verdict: 'accepted', forecast: null }, { verdict: 'accepted' }] });
  });
});

it('unsigned, it would be accepted once both sides have signed', async () => {
  await withStand(async (stand) => {
    await stand.propose({ 'trust/2.yaml': NEXT });
    const plan = await planOf(stand.config, { ref: 'refs/pull/7/head' });
    expect(plan.documents).toMatchObject([{ verdict: 'waiting', reason: 'SignaturesMissing', onceSigned: { verdict: 'accepted' } }]);
  });
});
