/** What a commit can hold: each beast is refused by its own name, in one push with a signed release and a signed revocation that both count. */
import { randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { takeIn } from '#src/engine/intake.ts';
import type { LabGit } from '#src/lab/git.ts';
import { releaseText, revocationText } from '../documents/people.ts';
import { expectUnharmed, goodFiles, graft, type OddEntry, refusalOf, type Shown, shownOf, writeObject } from './attack-zoo-parts.ts';
import { withBench } from './intake-parts.ts';

/** On a machine that does ten other things. Milliseconds. */
const PATIENCE = 180_000;

const RELEASE = releaseText('x', 1, null);
const lines = (...texts: readonly string[]): string => `${texts.join('\n')}\n`;
/** A release of the beast's own workload in which one number is written otherwise. */
const numbered = (written: string) => (id: string) => releaseText(id, 1, null).replace('deadlineSeconds: 600', `deadlineSeconds: ${written}`);

/** Nine lists of nine of the list before: a billion of the first. */
const LAUGHS = lines(
  'a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]',
  ...[...'bcdefghi'].map((to, index) => `${to}: &${to} [${`*${'abcdefgh'[index]}, `.repeat(9)}]`),
);

interface Beast {
  readonly beast: string;
  readonly bytes: string | Buffer | ((id: string) => string);
  readonly reason: string;
  readonly about: RegExp;
}

/** Bytes that are no document, each at `releases/<its id>/1.yaml`. */
const BYTES: readonly Beast[] = [
  { beast: 'an alias bomb', bytes: LAUGHS, reason: 'Malformed', about: /anchors.*line 1/ },
  { beast: 'an alias', bytes: lines('a: b', 'c: *a'), reason: 'Malformed', about: /alias.*line 2/i },
  { beast: 'a key twice', bytes: (id) => `${releaseText(id, 1, null)}serial: 2\n`, reason: 'Malformed', about: /each key once, found serial/ },
  { beast: 'a key twice, once in quotes', bytes: (id) => `${releaseText(id, 1, null)}"serial": 2\n`, reason: 'Malformed', about: /found serial/ },
  { beast: 'a merge key', bytes: (id) => `${releaseText(id, 1, null)}<<: { serial: 2 }\n`, reason: 'UnknownField', about: /<</ },
  { beast: 'a tag', bytes: lines('a: !!binary aGVsbG8='), reason: 'Malformed', about: /tags/ },
  { beast: 'a directive', bytes: lines('%YAML 1.1', '---', 'a: yes'), reason: 'Malformed', about: /directives/ },
  { beast: 'two documents', bytes: (id) => `${releaseText(id, 1, null)}---\n${releaseText(id, 2, null)}`, reason: 'Malformed', about: /document/ },
  { beast: 'a document that ends, and goes on', bytes: (id) => `${releaseText(id, 1, null)}...\nserial: 2\n`, reason: 'Malformed', about: /./ },
  { beast: '10 MB', bytes: randomBytes(5_000_000).toString('hex'), reason: 'LimitExceeded', about: /^10000000 bytes, expected at most 262144/ },
  { beast: '300 KiB', bytes: 'x'.repeat(300 * 1024), reason: 'LimitExceeded', about: /^307200 bytes/ },
  { beast: '100,000 entries', bytes: '-\n'.repeat(100_000), reason: 'LimitExceeded', about: /at most 60000 words and marks/ },
  { beast: '25,000 entries', bytes: '-\n'.repeat(25_000), reason: 'LimitExceeded', about: /at most 20000 values/ },
  { beast: 'a hundred levels', bytes: `${'{a: '.repeat(100)}1${'}'.repeat(100)}`, reason: 'LimitExceeded', about: /at most 16 levels/ },
  { beast: 'a hundred thousand levels', bytes: '['.repeat(100_000), reason: 'LimitExceeded', about: /at most 16 levels/ },
  { beast: 'levels by dashes', bytes: '- '.repeat(5000), reason: 'LimitExceeded', about: /at most 16 levels/ },
  { beast: 'a NUL', bytes: `${RELEASE}a: "\0"\n`, reason: 'Malformed', about: /U\+0000/ },
  { beast: 'a NUL that is written as an escape', bytes: (id) => `${releaseText(id, 1, null)}a: "\\0"\n`, reason: 'Malformed', about: /U\+0000/ },
  { beast: 'CRLF', bytes: (id) => releaseText(id, 1, null).replaceAll('\n', '\r\n'), reason: 'Malformed', about: /end in LF alone.*line 1/ },
  { beast: 'a CR that hides a line', bytes: (id) => `${releaseText(id, 1, null)}# serial: 2\r# harmless\n`, reason: 'Malformed', about: /end in LF alone/ },
  { beast: 'a byte order mark', bytes: (id) => `\ufeff${releaseText(id, 1, null)}`, reason: 'Malformed', about: /U\+feff/ },
  { beast: 'UTF-16', bytes: Buffer.from(`\ufeff${RELEASE}`, 'utf16le'), reason: 'Malformed', about: /UTF-8/ },
  { beast: 'an overlong form', bytes: Buffer.concat([Buffer.from('a: '), Buffer.from([0xc0, 0xaf])]), reason: 'Malformed', about: /UTF-8/ },
  { beast: 'a turn of direction', bytes: (id) => `${releaseText(id, 1, null)}# \u202etxet\n`, reason: 'Malformed', about: /U\+202e/ },
  { beast: 'letters that are drawn as nothing', bytes: (id) => `${releaseText(id, 1, null)}a\u3164: 1\n`, reason: 'Malformed', about: /U\+3164/ },
  { beast: 'tags of Unicode', bytes: (id) => `${releaseText(id, 1, null)}# \u{e0041}\n`, reason: 'Malformed', about: /U\+e0041/ },
  { beast: 'tabs', bytes: lines('a:', '\tb: 1'), reason: 'Malformed', about: /line 2/ },
  { beast: '1e400', bytes: numbered('1e400'), reason: 'Malformed', about: /decimal number/ },
  { beast: '1e3', bytes: numbered('1e3'), reason: 'Malformed', about: /decimal number/ },
  { beast: '0x10', bytes: numbered('0x10'), reason: 'Malformed', about: /decimal number/ },
  { beast: '0o10', bytes: numbered('0o10'), reason: 'Malformed', about: /decimal number/ },
  { beast: 'leading zeros', bytes: numbered('0600'), reason: 'Malformed', about: /decimal number/ },
  { beast: 'minus zero', bytes: numbered('-0'), reason: 'Malformed', about: /decimal number/ },
  { beast: 'a plus', bytes: numbered('+600'), reason: 'Malformed', about: /decimal number/ },
  { beast: 'no number', bytes: numbered('.nan'), reason: 'Malformed', about: /decimal number/ },
  { beast: 'base 60', bytes: numbered('10:00'), reason: 'Malformed', about: /rollout\.deadlineSeconds: expected number/ },
  { beast: 'a number of groups', bytes: numbered('1_000'), reason: 'Malformed', about: /rollout\.deadlineSeconds: expected number/ },
  { beast: 'more than 53 bits', bytes: numbered('9007199254740993'), reason: 'Malformed', about: /decimal number/ },
  { beast: '__proto__', bytes: (id) => `${releaseText(id, 1, null)}__proto__: { serial: 2 }\n`, reason: 'Malformed', about: /__proto__/ },
  { beast: 'constructor', bytes: (id) => `${releaseText(id, 1, null)}constructor: {}\n`, reason: 'UnknownField', about: /constructor/ },
  { beast: 'a timestamp with a space', bytes: (id) => releaseText(id, 1, null, { expires: '2090-01-01 00:00:00Z' }), reason: 'Malformed', about: /expires/ },
  { beast: 'a day that there is not', bytes: (id) => releaseText(id, 1, null, { expires: '2090-02-30T00:00:00Z' }), reason: 'Malformed', about: /expires/ },
  { beast: 'a key that is a list', bytes: lines('? [a, b]', ': c'), reason: 'Malformed', about: /./ },
  { beast: 'nothing', bytes: '', reason: 'Malformed', about: /./ },
  { beast: 'a comment alone', bytes: '# nothing to see\n', reason: 'Malformed', about: /./ },
  {
    beast: 'a name that a row could not keep',
    bytes: (id) => releaseText(id, 1, null).replace(`guests/${id}.toml`, `guests/${'x'.repeat(5000)}`),
    reason: 'Malformed',
    about: /initData\.file/,
  },
  { beast: 'another workload’s release', bytes: RELEASE, reason: 'WrongPlace', about: /workload: expected/ },
  { beast: 'a revocation among releases', bytes: revocationText('x', { kind: 'all' }), reason: 'WrongPlace', about: /kind: expected Release/ },
];

const idOf = (index: number): string => `beast-${index}`;
const LONG = `${'l'.repeat(5000)}.yaml`;

interface Place {
  readonly beast: string;
  /** Its folder, and its entry there; `file` and `folder` stand for an object of that kind. */
  readonly folder: string;
  readonly mode: string;
  readonly name: string | Buffer;
  readonly of?: 'file' | 'folder' | 'commit';
  /** Where that is not the folder and the name. */
  readonly path?: string;
  readonly reason: string;
  readonly about: RegExp;
}

/** Entries that are no document, or that Git would not have written. */
const PLACES: readonly Place[] = [
  { beast: 'a symlink', folder: 'releases/odd/', mode: '120000', name: '1.yaml', reason: 'NotPlainFile', about: /mode 120000/ },
  { beast: 'a symlink for a folder', folder: 'releases/', mode: '120000', name: 'linked', reason: 'NotPlainFile', about: /mode 120000/ },
  { beast: 'a submodule', folder: 'releases/odd/', mode: '160000', name: '2.yaml', of: 'commit', reason: 'NotPlainFile', about: /mode 160000/ },
  { beast: 'a submodule for a folder', folder: 'releases/', mode: '160000', name: 'module', of: 'commit', reason: 'NotPlainFile', about: /mode 160000/ },
  { beast: 'a symlink for a watched folder', folder: '', mode: '120000', name: 'withdrawals', reason: 'NotPlainFile', about: /expected a folder/ },
  { beast: 'mode 100755', folder: 'releases/odd/', mode: '100755', name: '3.yaml', reason: 'NotPlainFile', about: /mode 100755/ },
  { beast: 'mode 100664', folder: 'releases/odd/', mode: '100664', name: '4.yaml', reason: 'NotPlainFile', about: /mode 100664/ },
  { beast: 'a mode with a zero in front', folder: 'releases/', mode: '040000', name: 'zero', of: 'folder', reason: 'ObjectMalformed', about: /mode 040000/ },
  { beast: 'a mode that there is not', folder: 'releases/odd/', mode: '100000', name: '5.yaml', reason: 'ObjectMalformed', about: /mode 100000/ },
  { beast: '..', folder: 'releases/', mode: '40000', name: '..', of: 'folder', reason: 'ObjectMalformed', about: /called \.\./ },
  { beast: '.', folder: 'revocations/', mode: '40000', name: '.', of: 'folder', reason: 'ObjectMalformed', about: /called \./ },
  { beast: '.git', folder: 'releases/odd/', mode: '40000', name: '.GIT', of: 'folder', reason: 'ObjectMalformed', about: /called \.GIT/ },
  { beast: 'a slash in a name', folder: 'releases/', mode: '100644', name: 'w/2.yaml', reason: 'ObjectMalformed', about: /slash/ },
  { beast: 'a slash at the root', folder: '', mode: '100644', name: 'revocations/slash.yaml', reason: 'ObjectMalformed', about: /slash/ },
  { beast: 'a name twice', folder: 'releases/w/', mode: '100644', name: '1.yaml', reason: 'ObjectMalformed', about: /again; the first is read/ },
  {
    beast: 'a watched folder twice',
    folder: '',
    mode: '40000',
    name: 'revocations',
    of: 'folder',
    reason: 'ObjectMalformed',
    about: /again; the first is read/,
  },
  {
    beast: 'a name that is no UTF-8',
    folder: 'releases/odd/',
    mode: '100644',
    name: Buffer.from([0xff, 0x2e, 0x79]),
    path: 'releases/odd/(not UTF-8)',
    reason: 'ObjectMalformed',
    about: /UTF-8/,
  },
  {
    beast: 'a path of 5,000 bytes',
    folder: 'releases/odd/',
    mode: '100644',
    name: LONG,
    path: `releases/odd/${'l'.repeat(187)}… (5018 characters)`,
    reason: 'WrongPlace',
    about: /no document/,
  },
  {
    beast: 'an escape for the terminal',
    folder: 'releases/odd/',
    mode: '100644',
    name: '\u001b[2J.yaml',
    path: 'releases/odd/\ufffd[2J.yaml',
    reason: 'WrongPlace',
    about: /no document/,
  },
  { beast: 'a case-fold twin', folder: 'releases/w/', mode: '100644', name: '1.YAML', reason: 'WrongPlace', about: /no document/ },
  {
    beast: 'a case-fold twin of a folder',
    folder: 'releases/',
    mode: '40000',
    name: 'W',
    of: 'folder',
    path: 'releases/W/1.yaml',
    reason: 'WrongPlace',
    about: /no document/,
  },
  {
    beast: 'a case-fold twin of a watched folder',
    folder: '',
    mode: '40000',
    name: 'Revocations',
    of: 'folder',
    reason: 'WrongPlace',
    about: /called revocations/,
  },
  { beast: 'a letter that looks alike', folder: '', mode: '40000', name: 'r\u0435vocations', of: 'folder', reason: 'WrongPlace', about: /called revocations/ },
  { beast: 'a folder in the singular', folder: '', mode: '40000', name: 'release', of: 'folder', reason: 'WrongPlace', about: /called releases/ },
  {
    beast: 'NFC',
    folder: 'releases/',
    mode: '40000',
    name: '\u00e9',
    of: 'folder',
    path: 'releases/\u00e9/1.yaml',
    reason: 'WrongPlace',
    about: /no document/,
  },
  {
    beast: 'its NFD twin',
    folder: 'releases/',
    mode: '40000',
    name: 'e\u0301',
    of: 'folder',
    path: 'releases/e\u0301/1.yaml',
    reason: 'WrongPlace',
    about: /no document/,
  },
  { beast: 'a digit of another script', folder: 'releases/w/', mode: '100644', name: '\uff11.yaml', reason: 'WrongPlace', about: /no document/ },
  { beast: 'a serial with a zero in front', folder: 'releases/w/', mode: '100644', name: '01.yaml', reason: 'WrongPlace', about: /no document/ },
  { beast: 'a space at the end', folder: 'releases/w/', mode: '100644', name: '2.yaml ', reason: 'WrongPlace', about: /no document/ },
  { beast: 'a bundle in capitals', folder: 'releases/w/', mode: '100644', name: '1.ANN.sigstore.json', reason: 'WrongPlace', about: /no document/ },
  { beast: 'a folder further down', folder: 'releases/w/', mode: '40000', name: 'deeper', of: 'folder', reason: 'WrongPlace', about: /this deep/ },
];

async function entriesOf(lab: LabGit): Promise<Record<string, readonly OddEntry[]>> {
  const file = await writeObject(lab, 'blob', RELEASE);
  const folder = await writeObject(lab, 'tree', Buffer.concat([Buffer.from('100644 1.yaml\0'), Buffer.from(file, 'hex')]));
  const commit = (await lab.git(['rev-parse', 'refs/heads/main'])).trim();
  const oids = { file, folder, commit };
  const odd: Record<string, OddEntry[]> = {};
  for (const { folder: at, mode, name, of = 'file' } of PLACES) odd[at] = [...(odd[at] ?? []), { mode, name, oid: oids[of] }];
  return odd;
}

describe('one push with all of them', () => {
  let shown: Shown;
  beforeAll(
    () =>
      withBench(async ({ lab, pool, intake }) => {
        const beasts = BYTES.map(({ bytes }, index) => [`releases/${idOf(index)}/1.yaml`, typeof bytes === 'function' ? bytes(idOf(index)) : bytes]);
        const five = { 'releases/w/1.eve.sigstore.json': randomBytes(2_500_000).toString('hex') };
        await lab.commit(
          { ...(await goodFiles()), 'releases/odd/9.yaml': 'x', 'baseline/a/1.yaml': '', ...five, ...Object.fromEntries(beasts) },
          'all of them',
        );
        await graft(lab, await entriesOf(lab));
        await takeIn(intake);
        await expectUnharmed(pool);
        shown = await shownOf(pool);
      }),
    PATIENCE,
  );

  it.each(BYTES.map((beast, index) => ({ ...beast, index })))('$beast: $reason', ({ index, reason, about }) => {
    const refusal = refusalOf(shown, `releases/${idOf(index)}/1.yaml`);
    expect(refusal.reason).toBe(reason);
    expect(refusal.about).toMatch(about);
  });

  it.each(PLACES)('$beast: $reason', ({ folder, name, path, reason, about }) => {
    const entry = shown.json.branches.flatMap(({ unread }) => unread).filter((one) => one.path === (path ?? `${folder}${name}`) && one.reason === reason);
    expect(entry.map((one) => one.about).join()).toMatch(about);
    for (const one of entry) expect(shown.text).toContain(`${one.reason}: ${one.about}\n`);
  });

  it('an empty file in front of all others: Malformed', () => {
    expect(refusalOf(shown, 'baseline/a/1.yaml').reason).toBe('Malformed');
  });

  it('a bundle of 5 MB: LimitExceeded', () => {
    expect(refusalOf(shown, 'releases/w/1.eve.sigstore.json')).toMatchObject({ reason: 'LimitExceeded', about: expect.stringMatching(/^5000000 bytes/) });
  });

  it('what is accepted is what was signed, and nothing else', () => {
    expect(shown.json.documents.filter(({ verdict }) => verdict === 'accepted').map(({ path }) => path)).toEqual([
      'releases/w/1.yaml',
      'revocations/r.yaml',
      'trust/1.yaml',
    ]);
    expect(shown.json.workloads.map(({ name, target, held }) => [name, target, held?.reason ?? null])).toEqual([['w', 's1-v1', null]]);
  });

  it('nothing that is shown speaks to a terminal, and no line is as long as what somebody committed', () => {
    expect(shown.text).not.toMatch(/[^\P{C}\n]/u);
    expect(Math.max(...shown.text.split('\n').map((line) => line.length))).toBeLessThan(1500);
  });
});
