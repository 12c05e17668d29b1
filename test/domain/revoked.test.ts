import { describe, expect, it } from 'vitest';
import type { ForeignGrant } from '#src/domain/documents/release.ts';
import type { RevocationSubject } from '#src/domain/documents/trust.ts';
import { initDataClaim } from '#src/domain/init-data.ts';
import { guestWithoutValue } from '#src/domain/lost-value.ts';
import { fieldWithRevoked, initDataOfTargets, isRefusedWhole, revokedSigners, revokedValues, signersSince } from '#src/domain/revoked.ts';
import { GENERATION_NAME, wantOf, wantRefusal } from '#src/domain/want.ts';
import { parseInstant } from '#src/instant.ts';
import { baseline, initDataOf, parts, revision } from './want-parts.ts';

const value = (name: string, of: string | number | boolean | (string | number | boolean)[]): RevocationSubject => ({
  kind: 'reference-value',
  name,
  value: of,
});
const TARGET: RevocationSubject = { kind: 'target', cluster: 'c', namespace: 'n', name: 'd' };

describe('what a KBS should hold once a reference value was revoked', () => {
  it('has it in no list, of a release, a platform or a baseline', () => {
    const platform = {
      apiVersion: 'keyturn.dev/v1alpha1',
      kind: 'Platform',
      id: 'p',
      serial: 1,
      previous: null,
      tee: 'sample',
      referenceValues: { tcb: [7, 8] },
    } as const;
    const guest = { platform: 'p', referenceValues: { svn: ['1', '2'] } };
    const foreign = baseline({ referenceValues: { svn: ['2', '9'], major_version: 1 } });
    const revoked = [value('svn', '2'), value('tcb', 7), value('major_version', 1)];
    const { referenceValues } = wantOf(
      parts({
        revisions: [revision(1, guest)],
        platforms: [{ ...platform, referenceValues: { tcb: [7, 8] } }],
        baseline: foreign,
        revoked,
        namesSent: ['major_version'],
      }),
    );
    expect(referenceValues).toEqual({ svn: ['1', '9'], tcb: [8], major_version: [], [GENERATION_NAME]: { installation: 'eu', generation: 7 } });
  });

  it('has each value of a list', () => {
    const { referenceValues } = wantOf(
      parts({ revisions: [revision(1, { referenceValues: { svn: ['1', '2', '3'] } })], revoked: [value('svn', ['1', '3', 2])] }),
    );
    expect(referenceValues.svn).toEqual(['2']);
  });

  it('is told from a value of another type, and of another name', () => {
    const revoked = [value('svn', 1), value('other', '1')];
    const { grants, referenceValues } = wantOf(parts({ revisions: [revision(1)], revoked }));
    expect([grants[0]?.claims, referenceValues.svn]).toEqual([{ 'sample.svn': ['1'] }, ['1']]);
  });

  it('grants nothing where one claim of several has none left, for a claim that is left out would let in more', () => {
    const guest = { tee: 'tdx', referenceValues: { mr_td: ['a'], rtmr_1: ['b', 'c'] } } as const;
    const grantsWith = (revoked: readonly RevocationSubject[]) =>
      wantOf(parts({ revisions: [revision(1, guest)], revoked })).grants.map(({ claims }) => claims);
    expect(grantsWith([value('rtmr_1', 'b')])).toEqual([{ 'tdx.quote.body.mr_td': ['a'], 'tdx.quote.body.rtmr_1': ['c'] }]);
    expect(grantsWith([value('mr_td', 'a')])).toEqual([]);
  });

  it('has no grant of others that asks for it', () => {
    const measured = (measurement: string): ForeignGrant => ({
      ...{ paths: [`team/a/${measurement}`], tee: 'snp' as const, status: 'affirming' as const, initData: [] },
      claims: { '/submods/cpu0/ear.veraison.annotated-evidence/snp/measurement': measurement },
    });
    const want = wantOf(parts({ baseline: baseline({ grants: [measured('m1'), measured('m2')] }), revoked: [value('snp_launch_measurement', 'm1')] }));
    expect(want.foreign.map(({ paths }) => paths)).toEqual([['team/a/m2']]);
  });
});

describe('what is denied', () => {
  it('is sorted, each once, without our own paths and those that the prober asks for', () => {
    const denied = { paths: ['z/b/c', 'keyturn-eu/w/s1', 'keyturn/probe/g1', 'a/b/c', 'z/b/c'], initData: ['b', 'a', 'b'], devices: ['y', 'x'] };
    const want = wantOf(parts({ denied }));
    expect(want.denied).toEqual({ paths: ['a/b/c', 'z/b/c'], initData: ['a', 'b'], devices: ['x', 'y'] });
    expect(wantRefusal(parts({ denied }))).toBeNull();
  });

  it('has the init-data of a wanted target that is revoked, though no list has it', () => {
    const claim = initDataClaim(initDataOf('w 1'), 'sample');
    expect(wantOf(parts({ revisions: [revision(1)], revoked: [TARGET] })).denied.initData).toEqual([claim]);
    expect(wantOf(parts({ revisions: [revision(1)], revoked: [{ ...TARGET, name: 'other' }] })).denied.initData).toEqual([]);
  });

  it('is told in the encoding of each guest’s own verifier', () => {
    const releases = [revision(1), revision(2, { tee: 'snp', referenceValues: { snp_launch_measurement: ['m'] } }), revision(3, { tee: 'az-snp-vtpm' })].map(
      ({ release }) => release,
    );
    const claims = initDataOfTargets(releases, [TARGET]);
    expect([...claims].sort()).toEqual([initDataClaim(initDataOf('w 1'), 'sample'), initDataClaim(initDataOf('w 2'), 'snp')].sort());
    expect(releases.map((release) => isRefusedWhole(release, new Set(claims)))).toEqual([true, true, false]);
  });
});

describe('a guest without a value', () => {
  const isRevoked = (...subjects: readonly RevocationSubject[]) => revokedValues(subjects) ?? (() => false);
  const platform = {
    apiVersion: 'keyturn.dev/v1alpha1',
    kind: 'Platform',
    id: 'p',
    serial: 1,
    previous: null,
    tee: 'sample',
    referenceValues: { svn: ['9'], tcb: [8] },
  } as const;
  const platforms = [{ ...platform, referenceValues: { svn: ['9'], tcb: [8] } }];

  it('has lost the last that its release lists of a name that grants are written on, whatever its platform lists', () => {
    const { release } = revision(1, { platform: 'p' });
    expect(guestWithoutValue(release, platforms, isRevoked(value('svn', '1')))).toBe('g');
    expect(guestWithoutValue(release, platforms, isRevoked(value('svn', '9')))).toBeNull();
  });

  it('has another one of any other name, while its platform lists one', () => {
    const { release } = revision(1, { platform: 'p', referenceValues: { svn: ['1'], tcb: [7] } });
    expect(guestWithoutValue(release, platforms, isRevoked(value('tcb', 7)))).toBeNull();
    expect(guestWithoutValue(release, platforms, isRevoked(value('tcb', 7), value('tcb', 8)))).toBe('g');
    expect(guestWithoutValue(release, [], isRevoked(value('tcb', 7)))).toBe('g');
  });

  it('is none that no target runs', () => {
    const { release } = revision(1);
    const unused = { ...release, guests: { ...release.guests, spare: { ...(release.guests.g ?? expect.fail()), referenceValues: { svn: ['5'] } } } };
    expect(guestWithoutValue(unused, [], isRevoked(value('svn', '5')))).toBeNull();
    expect(fieldWithRevoked(unused, isRevoked(value('svn', '5')))).toBe('guests.spare.referenceValues.svn');
  });
});

it('a signer counts from `since` on, and from the acceptance of the revocation at the latest', () => {
  const [early, middle, late] = ['2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z', '2026-03-01T00:00:00Z'].map(parseInstant) as [never, never, never];
  const people = (since: string | undefined, at: typeof early | null, acceptedAt: typeof early): number =>
    signersSince(revokedSigners([{ subject: { kind: 'signer', person: 'bob', ...(since === undefined ? {} : { since }) }, at }]), acceptedAt).length;
  expect([people(undefined, late, early), people('2026-02-01T00:00:00Z', late, early), people('2026-02-01T00:00:00Z', late, middle)]).toEqual([1, 0, 1]);
  // Accepted after the revocation, though before its `since`.
  expect([people('2027-01-01T00:00:00Z', middle, late), people('2027-01-01T00:00:00Z', null, late)]).toEqual([1, 0]);
});
