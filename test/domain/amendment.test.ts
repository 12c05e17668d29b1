import { describe, expect, it } from 'vitest';
import { addedTargets, amends } from '#src/domain/amendment.ts';
import type { Known, Release } from '#src/domain/release.ts';
import { imageOf, testRelease } from '../world/release.ts';

const first = testRelease({ serial: 1 });
const known = { release: first } as Known;
const next = testRelease({ serial: 2, keep: 1, svn: '1', image: imageOf(1), keepPreviousSeconds: 99 });
const [target] = next.targets;
if (target === undefined) throw new Error('a test release has a target');

describe('a keep release amends the revision before it', () => {
  it.each<[string, Partial<Release>, readonly string[]]>([
    ['that changes settings', {}, []],
    ['that waits for more pods', { targets: [{ ...target, minimumAttested: 7 }] }, []],
    ['that waits for a target no longer than a while', { targets: [{ ...target, retireWithoutSeconds: 60 }] }, []],
    ['that adds a target', { targets: [{ ...target, name: 'more' }, target] }, ['east/inference/more']],
    ['whose init-data lies in another file', { guests: { sample: { ...guest(), initData: { ...guest().initData, file: 'guests/other.toml' } } } }, []],
  ])('%s', (_name, change, added) => {
    expect(amends(known, { ...next, ...change })).toBe(true);
    expect(addedTargets(first, { ...next, ...change })).toEqual(added);
  });
});

describe('it is a revision of its own', () => {
  it.each<[string, Partial<Release>]>([
    ['with another image', { images: { chat: imageOf(2) } }],
    ['with another measurement', { guests: { sample: { ...guest(), referenceValues: { svn: ['2'] } } } }],
    ['with other init-data', { guests: { sample: { ...guest(), initData: { ...guest().initData, digest: first.digest } } } }],
    ['that lets go of a target', { targets: [{ ...target, name: 'more' }] }],
    ['that sets a target otherwise', { targets: [{ ...target, set: { ...target.set, '/spec/paused': 'false' } }] }],
    ['that adds a target at another KBS', { targets: [target, { ...target, name: 'more', kbs: 'other' }] }],
    ['that adds a guest', { guests: { sample: guest(), more: guest() } }],
  ])('%s', (_name, change) => {
    expect(amends(known, { ...next, ...change })).toBe(false);
  });
});

function guest(): Release['guests'][string] {
  const { sample } = next.guests;
  if (sample === undefined) throw new Error('a test release has a guest');
  return sample;
}
