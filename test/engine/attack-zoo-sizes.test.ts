/** What a push can be full of: a signed release and a signed revocation in the same push count, in the same pass. */
import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { openDocuments } from '#src/engine/documents.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { revocationText } from '../documents/people.ts';
import { expectUnharmed, goodFiles, graft, type OddEntry, refusalOf, shownOf, treeBytes, writeObject } from './attack-zoo-parts.ts';
import { release, revocation, serials, verdicts, withBench } from './intake-parts.ts';

/** On a machine that does ten other things. Milliseconds. */
const PATIENCE = 180_000;

const many = (count: number, mode: string, oid: string, nameOf: (index: number) => string): readonly OddEntry[] =>
  Array.from({ length: count }, (_, index) => ({ mode, name: nameOf(index), oid }));

it(
  '100,000 entries in the root, in the folder of releases and in that of revocations',
  () =>
    withBench(async ({ pool, lab, intake }) => {
      await lab.commit(await goodFiles(), 'good');
      const blob = await writeObject(lab, 'blob', 'junk');
      await graft(lab, {
        '': many(100_000, '100644', blob, (index) => `a${index}`),
        'releases/': many(100_000, '100644', blob, (index) => `a${index}.yaml`),
        'revocations/': many(100_000, '100644', blob, (index) => `A${index}.yaml`),
      });
      await takeIn(intake);
      await expectUnharmed(pool);
      const shown = await shownOf(pool);
      expect(refusalOf(shown, 'revocations/A0.yaml').reason).toBe('WrongPlace');
      expect(refusalOf(shown, 'revocations/')).toMatchObject({ reason: 'LimitExceeded', about: expect.stringContaining('99900 more entries') });
      expect(refusalOf(shown, 'releases/').reason).toBe('LimitExceeded');
      expect(shown.text.length).toBeLessThan(200_000);
    }),
  PATIENCE,
);

it(
  'a bomb of folders: three hundred of 19,000 entries each, which are one',
  () =>
    withBench(async ({ pool, lab, intake }) => {
      await lab.commit(await goodFiles(), 'good');
      const blob = await writeObject(lab, 'blob', 'junk');
      const tree = await writeObject(lab, 'tree', treeBytes(many(19_000, '100644', blob, (index) => `z${index}`)));
      await graft(lab, { 'releases/': many(300, '40000', tree, (index) => `a${index}`) });
      await takeIn(intake);
      await expectUnharmed(pool);
      expect(refusalOf(await shownOf(pool), 'releases/a99')).toMatchObject({ reason: 'LimitExceeded', about: expect.stringContaining('entries') });
    }),
  PATIENCE,
);

it(
  '10,000 bundles beside one release, signed by nobody',
  () =>
    withBench(async ({ pool, lab, intake }) => {
      const junk = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`releases/w/1.a${index}.sigstore.json`, `{"a":${index}}`]));
      await lab.commit({ ...(await goodFiles()), ...junk }, 'all');
      await takeIn(intake);
      await expectUnharmed(pool);
    }),
  PATIENCE,
);

it(
  'more documents that nobody signed than a pass judges: what is signed is judged in the first, the rest in the next',
  () =>
    withBench(async ({ pool, lab, intake }) => {
      const junk = (from: number, folder: string): Record<string, string> =>
        Object.fromEntries(Array.from({ length: 150 }, (_, index) => [`${folder}${from + index}.yaml`, `a: ${index}\n`]));
      await lab.commit({ ...(await goodFiles()), ...junk(0, 'revocations/a'), ...junk(2, 'releases/w/') }, 'all');
      await takeIn(intake);
      await expectUnharmed(pool);
      const waiting = async (): Promise<number> => Object.values(await verdicts(pool)).filter((verdict) => verdict.startsWith('waiting')).length;
      expect(await waiting()).toBe(100);
      await takeIn(intake);
      expect(await waiting()).toBe(0);
      await expectUnharmed(pool);
    }),
  PATIENCE,
);

it(
  'revocations that junk was laid beside are verified once for each tip, however often a gate asks',
  () =>
    withBench(async ({ lab, intake }) => {
      const junk = Object.fromEntries(
        Array.from({ length: 40 }, (_, index) => [
          [`revocations/a${index}.yaml`, revocationText(`a${index}`, { kind: 'all' })],
          [`revocations/a${index}.ann.sigstore.json`, '{}'],
        ]).flat(),
      );
      await lab.commit({ ...(await goodFiles()), ...junk }, 'all');
      await takeIn(intake);
      let asked = 0;
      const verifyBundle: Intake['verifyBundle'] = (...words) => {
        asked += 1;
        return intake.verifyBundle(...words);
      };
      const documents = openDocuments({ ...intake, verifyBundle });
      expect((await documents.revocations()).map(({ id }) => id)).toEqual(['r']);
      expect(asked).toBe(41);
      expect((await documents.revocations()).map(({ id }) => id)).toEqual(['r']);
      expect(asked).toBe(41);
      await lab.commit(await revocation('s', { kind: 'workload', workload: 'u' }), 'more');
      expect((await documents.revocations()).map(({ id }) => id)).toEqual(['r', 's']);
    }),
  PATIENCE,
);

it.each([
  ['a host that leaves out what is too large', 'true', 'left out by the host'],
  ['a host that cannot', 'false', '9000000 bytes'],
])(
  'a file of 9 MB in the history, beside documents and as one, from %s',
  (_, able, about) =>
    withBench(async ({ pool, lab, intake, push }) => {
      await lab.git(['config', 'uploadpack.allowFilter', able]);
      const large = randomBytes(4_500_000).toString('hex');
      await lab.commit({ 'weights.bin': large, 'zeros.bin': Buffer.alloc(10_000_000) }, 'by mistake');
      await lab.commit({ ...(await goodFiles()), 'weights.bin': null, 'releases/w/2.yaml': large, 'trust/2.yaml': 'x'.repeat(300_000) }, 'all');
      await takeIn(intake);
      await expectUnharmed(pool);
      const shown = await shownOf(pool);
      expect(refusalOf(shown, 'releases/w/2.yaml')).toMatchObject({ reason: 'LimitExceeded', about: expect.stringContaining(about) });
      expect(refusalOf(shown, 'trust/2.yaml').reason).toBe('LimitExceeded');
      await push(await release(1, null, undefined, 'v'));
      await push({ 'README.md': 'x' });
      expect(await serials(pool, 'v')).toEqual([1]);
    }),
  PATIENCE,
);
