import { describe, expect, it } from 'vitest';
import type { ForeignGrant } from '#src/domain/documents/release.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import { keyPath } from '#src/domain/paths.ts';
import { GENERATION_NAME, grantOf, wantOf, wantRefusal } from '#src/domain/want.ts';
import { baseline, initDataOf, parts, reasonOf, revision } from './want-parts.ts';

describe('what a KBS should hold', () => {
  it('is nothing but the generation where nothing is wanted', () => {
    const want = wantOf(parts());
    expect(want).toMatchObject({ kbs: 'main', installation: 'eu', generation: 7, grants: [], foreign: [] });
    expect(want.referenceValues).toEqual({ [GENERATION_NAME]: { installation: 'eu', generation: 7 } });
  });

  it('grants each revision its own path, to its own guest alone', () => {
    const one = revision(1);
    const two = revision(2, { kbsResources: ['default/b/c', 'default/a/c'] });
    const { grants } = wantOf(parts({ revisions: [one, two] }));
    expect(grants.map((grant) => grant.paths).sort()).toEqual([[keyPath('keyturn-eu', one)], [keyPath('keyturn-eu', two), 'default/a/c', 'default/b/c']]);
    expect(grants.find((grant) => grant.paths.length === 1)).toEqual({
      paths: [keyPath('keyturn-eu', one)],
      tee: 'sample',
      initData: initDataClaim(initDataOf('w 1'), 'sample'),
      devices: { gpu: 0, switch: 0 },
      claims: { 'sample.svn': ['1'] },
    });
  });

  it('holds nothing of a target on another KBS', () => {
    const want = wantOf(parts({ revisions: [revision(1, {}, 'w', 'other')] }));
    expect(want.grants).toEqual([]);
    expect(Object.keys(want.referenceValues)).toEqual([GENERATION_NAME]);
  });

  it('is the same whatever the order of its parts', () => {
    const revisions = [revision(1), revision(2), revision(3, {}, 'v')];
    const foreign = baseline({
      grants: [
        { paths: ['b/c/d', 'a/c/d'], tee: 'snp', status: 'any', initData: [], claims: {} },
        { paths: ['e/c/d'], tee: 'tdx', status: 'any', initData: [], claims: {} },
      ],
    });
    const forwards = wantOf(parts({ revisions, baseline: foreign, namesSent: ['x', 'y'] }));
    const backwards = wantOf(
      parts({ revisions: revisions.toReversed(), baseline: { ...foreign, grants: foreign.grants.toReversed() }, namesSent: ['y', 'x'] }),
    );
    expect(JSON.stringify(backwards)).toBe(JSON.stringify(forwards));
  });

  it('writes grants on the measurements of the table, and publishes the rest', () => {
    const guest = { tee: 'tdx', referenceValues: { mr_td: ['b', 'a', 'b'], rtmr_1: ['c'], xfam: ['d'] } } as const;
    const want = wantOf(parts({ revisions: [revision(1, guest)] }));
    expect(want.grants[0]?.claims).toEqual({ 'tdx.quote.body.mr_td': ['a', 'b'], 'tdx.quote.body.rtmr_1': ['c'] });
    expect(want.referenceValues).toMatchObject({ mr_td: ['a', 'b'], rtmr_1: ['c'], xfam: ['d'] });
  });

  it.each([
    ['a measurement that is not in the table', { tee: 'snp', referenceValues: { snp_bootloader: [1] } }],
    ['a tee whose claims are not in the table', { tee: 'az-snp-vtpm', referenceValues: { measurement: ['a'] } }],
  ] as const)('refuses a guest with %s', (_, guest) => {
    const known = revision(1, guest);
    const [target] = known.release.targets;
    expect(reasonOf(() => target && grantOf(known, target, 'keyturn-eu'))).toBe('NotSupportedYet');
    expect(wantRefusal(parts({ revisions: [known] }))?.reason).toBe('NotSupportedYet');
  });

  it.each(['keyturn-eu/other/s1-v1-0-00000000', 'keyturn/probe/g000000000001'])('never grants %s as a further resource', (path) => {
    expect(wantRefusal(parts({ revisions: [revision(1, { kbsResources: [path] })] }))?.reason).toBe('Malformed');
  });
});

describe('reference values', () => {
  it('are the union over revisions, named platforms and the baseline', () => {
    const platform = { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Platform', serial: 1, previous: null, tee: 'sample' } as const;
    const want = wantOf(
      parts({
        revisions: [revision(1, { platform: 'p' }), revision(2)],
        platforms: [
          { ...platform, id: 'p', referenceValues: { firmware: [9] } },
          { ...platform, id: 'p', serial: 2, referenceValues: { firmware: [10] } },
          { ...platform, id: 'unnamed', referenceValues: { firmware: [11] } },
        ],
        baseline: baseline({ referenceValues: { svn: ['9', '1'], launch_digest: ['abcde'], major_version: 1 } }),
      }),
    );
    expect(want.referenceValues).toEqual({
      svn: ['1', '2', '9'],
      firmware: [10, 9],
      launch_digest: ['abcde'],
      major_version: 1,
      [GENERATION_NAME]: { installation: 'eu', generation: 7 },
    });
  });

  it('empties every name that was ever sent and is no longer wanted', () => {
    const { referenceValues } = wantOf(parts({ revisions: [revision(1)], namesSent: ['gone', 'svn', GENERATION_NAME] }));
    expect(referenceValues).toEqual({ gone: [], svn: ['1'], [GENERATION_NAME]: { installation: 'eu', generation: 7 } });
  });

  it.each([
    ['a scalar beside a list', { svn: '1' }],
    ['two scalars', { major_version: 2 }],
  ])('refuses %s under one name', (_, referenceValues) => {
    const revisions = [revision(1, { referenceValues: { svn: ['1'], major_version: [1] } })];
    const conflicting = parts({ revisions, baseline: baseline({ referenceValues }) });
    expect(reasonOf(() => wantOf(conflicting))).toBe('Malformed');
    expect(wantRefusal(conflicting)?.about).toContain(Object.keys(referenceValues)[0]);
  });
});

describe('a baseline', () => {
  const grant: Omit<ForeignGrant, 'paths'> = { tee: 'any', status: 'any', initData: [], claims: {} };

  it.each(['*/a/b', 'keyturn-eu/*/*', 'keyturn/probe/*'])('may not grant %s: it is refused, and left out whoever accepted it', (path) => {
    const taken = parts({ baseline: baseline({ grants: [{ ...grant, paths: [path, 'default/a/*'] }] }) });
    expect(wantRefusal(taken)?.reason).toBe('Malformed');
    expect(wantOf(taken).foreign).toEqual([{ ...grant, paths: ['default/a/*'] }]);
  });

  it('that speaks of others alone is taken as it is', () => {
    expect(wantRefusal(parts({ baseline: baseline({ grants: [{ ...grant, paths: ['default/a/*'] }] }) }))).toBeNull();
  });
});

it('a policy that its engine would not take is refused before acceptance: it would hold up every workload’s', () => {
  const kbsResources = Array.from({ length: 250 }, (_, index) => `default/${'a'.repeat(160)}/${index}`);
  const revisions = Array.from({ length: 30 }, (_, index) => revision(index + 1, { kbsResources }));
  expect(wantRefusal(parts({ revisions: revisions.slice(0, 20) }))).toBeNull();
  expect(wantRefusal(parts({ revisions }))).toMatchObject({ reason: 'LimitExceeded' });
});
