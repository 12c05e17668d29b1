/** What a history can be made of, and what a host can send that no Git would: what is signed counts all the same, or is told to wait and for what. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openGit } from '#src/adapters/git/index.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { reasonOf, varint } from '../adapters/git-parts.ts';
import {
  BY_HAND,
  expectUnharmed,
  goodFiles,
  type OddHost,
  openOddHost,
  openPack,
  refusalOf,
  type Shown,
  shownOf,
  treeBytes,
  writeObject,
} from './attack-zoo-parts.ts';
import { release, revocation, serials, verdicts, withBench } from './intake-parts.ts';

/** On a machine that does ten other things. Milliseconds. */
const PATIENCE = 180_000;

const unreadOf = ({ json }: Shown): readonly string[] => json.branches.flatMap(({ unread }) => unread.map(({ path, reason }) => `${path} ${reason}`));

describe('a history that somebody made', () => {
  it(
    'rewritten: releases are held and say so, a revocation counts, and all goes on where it is restored',
    () =>
      withBench(async ({ pool, lab, push, intake }) => {
        const base = await push(await goodFiles());
        const known = await push({ 'README.md': 'x', ...(await release(1, null, [], 'u')) });
        const evil = { ...(await release(1, null, undefined, 'h')), ...(await revocation('s', { kind: 'workload', workload: 'u' })) };
        const tip = await lab.rewrite(base.commit, evil, 'forced');
        await takeIn(intake);
        await expectUnharmed(pool);
        expect(await verdicts(pool)).toMatchObject({ 'revocations/s.yaml': 'accepted', 'releases/u/1.yaml': 'waiting HistoryRewritten' });
        expect(await serials(pool, 'h')).toEqual([]);
        const { json, text } = await shownOf(pool);
        expect(json.branches).toMatchObject([{ commit: known.commit, rewrittenTo: tip, help: expect.stringContaining('Restore it') }]);
        expect(text).toContain(`REWRITTEN to ${tip.slice(0, 12)}: releases are held\n  The branch no longer descends`);
        await lab.git(['update-ref', 'refs/heads/main', known.commit]);
        await push(await release(1, null, undefined, 'h'));
        expect(await serials(pool, 'h')).toEqual([1]);
        expect((await shownOf(pool)).json.branches).toMatchObject([{ rewrittenTo: null, help: null }]);
      }),
    PATIENCE,
  );

  it(
    'a moved tag, and refs of names that lie: nobody looks at them',
    () =>
      withBench(async ({ pool, lab, push, intake }) => {
        const good = await push(await goodFiles());
        const evil = await writeObject(lab, 'commit', `tree ${await writeObject(lab, 'tree', '')}\n${BY_HAND}`);
        const refs = [
          'refs/tags/v1',
          'refs/tags/main',
          'refs/heads/main-2',
          'refs/heads/mai',
          'refs/heads/a/refs/heads/main',
          'refs/pull/1/head',
          'refs/replace/',
        ];
        const names = refs.map((ref) => (ref.endsWith('/') ? `${ref}${good.commit}` : ref));
        for (const ref of names) await lab.git(['update-ref', ref, good.commit]);
        expect(await takeIn(intake)).toMatchObject({ changed: false, commit: good.commit });
        for (const ref of names) await lab.git(['update-ref', ref, evil]);
        expect(await takeIn(intake)).toMatchObject({ changed: false, commit: good.commit });
        const next = await push({ 'README.md': 'x' });
        expect(next).toMatchObject({ changed: true, rewrittenTo: null, unread: [] });
        await expectUnharmed(pool);
      }),
    PATIENCE,
  );

  it(
    'a tag where the branch was: named, and gone on from where it is put back',
    () =>
      withBench(async ({ pool, lab, intake, push }) => {
        const commit = await lab.commit(await goodFiles(), 'good');
        const tag = await writeObject(lab, 'tag', `object ${commit}\ntype commit\ntag main\ntagger lab <lab@keyturn.invalid> 1 +0000\n\nx\n`);
        // Git itself would not move the branch there.
        await writeFile(join((await lab.git(['rev-parse', '--absolute-git-dir'])).trim(), 'refs/heads/main'), `${tag}\n`);
        expect(await reasonOf(takeIn(intake))).toBe('UnexpectedAnswer');
        const { json, text } = await shownOf(pool);
        expect(json.polls).toMatchObject([{ reason: 'UnexpectedAnswer', about: expect.stringContaining('main points at a tag, expected a commit') }]);
        expect(text).toMatch(/branch main cannot be read since .*points at a tag/);
        await lab.git(['update-ref', 'refs/heads/main', commit]);
        await push({ 'README.md': 'x' });
        await expectUnharmed(pool);
        expect((await shownOf(pool)).json.polls).toMatchObject([{ failingSince: null }]);
      }),
    PATIENCE,
  );

  it(
    'a second tree behind a signature: the first is read, as Git does, and the commit is named',
    () =>
      withBench(async ({ pool, lab, intake }) => {
        const good = await lab.commit(await goodFiles(), 'good');
        const evil = await lab.commit(await release(1, null, undefined, 'h'), 'evil');
        const [one, two] = await Promise.all([good, evil].map(async (commit) => (await lab.git(['rev-parse', `${commit}^{tree}`])).trim()));
        const [author, committer] = BY_HAND.split('\n');
        const odd = await writeObject(lab, 'commit', `tree ${one}\nparent ${good}\n${author}\n${committer}\ngpgsig x\ntree ${two}\n\nby hand\n`);
        await lab.git(['update-ref', 'refs/heads/main', odd]);
        await takeIn(intake);
        await expectUnharmed(pool);
        expect(await serials(pool, 'h')).toEqual([]);
        expect(refusalOf(await shownOf(pool), `commit ${odd}`)).toMatchObject({ reason: 'ObjectMalformed', about: expect.stringContaining('tree') });
      }),
    PATIENCE,
  );

  it(
    'a second tree in front of the parents: Git sees none behind it, so that history is rewritten',
    () =>
      withBench(async ({ pool, lab, push, intake }) => {
        const { commit: known } = await push(await goodFiles());
        await lab.commit({ ...(await release(1, null, undefined, 'h')), ...(await revocation('s', { kind: 'workload', workload: 'h' })) }, 'more');
        const tree = (await lab.git(['rev-parse', 'refs/heads/main^{tree}'])).trim();
        const odd = await writeObject(lab, 'commit', `tree ${tree}\ntree ${tree}\nparent ${known}\n${BY_HAND}`);
        await lab.git(['update-ref', 'refs/heads/main', odd]);
        expect(await takeIn(intake)).toMatchObject({ rewrittenTo: odd });
        expect(await verdicts(pool)).toMatchObject({ 'revocations/s.yaml': 'accepted', 'releases/w/1.yaml': 'accepted' });
        expect(await serials(pool, 'h')).toEqual([]);
        expect(unreadOf(await shownOf(pool))).toEqual([`commit ${odd} ObjectMalformed`]);
      }),
    PATIENCE,
  );
});

describe('a host that sends what no Git would', () => {
  let host: OddHost;
  beforeEach(async () => {
    host = await openOddHost();
  });
  afterEach(() => host.close());
  const withHost = (fn: (intake: Intake) => Promise<void>): Promise<void> =>
    withBench(async ({ intake }) => {
      const git = openGit({ url: host.url, branch: 'main' });
      await fn({ ...intake, git }).finally(() => git.close());
    });

  it(
    'entries without a name, and that are not what they say: each is named, and what is beside them is read',
    () =>
      withHost(async (intake) => {
        const pack = openPack();
        const blob = pack.put('blob', 'x');
        const cut = pack.put('tree', treeBytes([{ mode: '100644', name: 'a', oid: blob }]).subarray(0, -1));
        const tree = pack.put('tree', '');
        const odd = {
          'releases/': [
            { mode: '100644', name: '', oid: blob },
            { mode: '40000', name: 'blob', oid: blob },
            { mode: '40000', name: 'cut', oid: cut },
          ],
          'releases/w/': [{ mode: '100644', name: '2.yaml', oid: tree }],
        };
        host.show(pack.put('commit', `tree ${pack.putFiles(await goodFiles(), odd)}\n${BY_HAND}`), pack.entries);
        await takeIn(intake);
        await expectUnharmed(intake.pool);
        const shown = await shownOf(intake.pool);
        expect(unreadOf(shown).toSorted()).toEqual([
          'releases/ ObjectMalformed',
          'releases/blob ObjectMalformed',
          'releases/cut ObjectMalformed',
          'releases/w/2.yaml ObjectMalformed',
        ]);
        for (const path of ['releases/', 'releases/blob', 'releases/cut', 'releases/w/2.yaml']) refusalOf(shown, path);
      }),
    PATIENCE,
  );

  it(
    'a commit whose parent is missing counts as rewritten, and its revocations count',
    () =>
      withHost(async (intake) => {
        const first = openPack();
        const known = first.put('commit', `tree ${first.putFiles(await goodFiles())}\n${BY_HAND}`);
        host.show(known, first.entries);
        await takeIn(intake);
        const next = openPack();
        const files = { ...(await goodFiles()), ...(await revocation('s', { kind: 'workload', workload: 'u' })) };
        const tip = next.put('commit', `tree ${next.putFiles(files)}\nparent ${'5'.repeat(40)}\n${BY_HAND}`);
        host.show(tip, next.entries);
        expect(await takeIn(intake)).toMatchObject({ rewrittenTo: tip });
        expect(await verdicts(intake.pool)).toMatchObject({ 'revocations/s.yaml': 'accepted' });
      }),
    PATIENCE,
  );

  it(
    'a bomb of deltas, and a document that is made of it',
    () =>
      withHost(async (intake) => {
        const pack = openPack();
        const base = Buffer.alloc(60_000, 'x');
        const baseName = Buffer.from(pack.put('blob', base), 'hex');
        const copy = Buffer.from([0xf0, base.length & 255, base.length >> 8, 0]);
        const bomb = (times: number): Buffer => Buffer.concat([varint(base.length), varint(base.length * times), ...Array.from({ length: times }, () => copy)]);
        // Of nine megabytes, and then, seemingly, of a hundred gigabytes.
        pack.entries.push({ type: 7, base: baseName, content: bomb(150) });
        pack.entries.push({ type: 7, base: baseName, content: Buffer.concat([varint(base.length), varint(100 * 2 ** 30), copy]) });
        const name = '7'.repeat(40);
        const odd = { 'releases/w/': [{ mode: '100644', name: '2.yaml', oid: name }] };
        host.show(pack.put('commit', `tree ${pack.putFiles(await goodFiles(), odd)}\n${BY_HAND}`), pack.entries);
        await takeIn(intake);
        await expectUnharmed(intake.pool);
        expect(refusalOf(await shownOf(intake.pool), 'releases/w/2.yaml')).toMatchObject({
          reason: 'LimitExceeded',
          about: expect.stringContaining('not unpacked'),
        });
      }),
    PATIENCE,
  );

  it(
    'what it keeps back is not taken for what is not there',
    () =>
      withHost(async (intake) => {
        const pack = openPack();
        const odd = { 'revocations/': [{ mode: '100644', name: 's.yaml', oid: '7'.repeat(40) }] };
        host.show(pack.put('commit', `tree ${pack.putFiles(await goodFiles(), odd)}\n${BY_HAND}`), pack.entries);
        expect(await reasonOf(takeIn(intake))).toBe('UnexpectedAnswer');
        expect((await shownOf(intake.pool)).json.polls).toMatchObject([{ about: expect.stringContaining('revocations/s.yaml') }]);
        const whole = openPack();
        const files = { ...(await goodFiles()), ...(await revocation('s', { kind: 'workload', workload: 'u' })) };
        host.show(whole.put('commit', `tree ${whole.putFiles(files)}\n${BY_HAND}`), whole.entries);
        await takeIn(intake);
        await expectUnharmed(intake.pool);
      }),
    PATIENCE,
  );
});
