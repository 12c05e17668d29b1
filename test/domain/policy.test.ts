import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Want } from '#src/domain/kbs.ts';
import { policyProgramDigest, renderPolicy } from '#src/domain/policy.ts';
import { wantOf } from '#src/domain/want.ts';
import { parts, reasonOf, revision } from './want-parts.ts';

/** Answers of a real engine: see `source` in the file. */
const decisions = JSON.parse(readFileSync(new URL('../vectors/trustee/policy-decisions.json', import.meta.url), 'utf8')) as { want: Want; policy: string };

const grant = { paths: ['k/w/s1'], tee: 'sample', initData: 'AAA=', devices: { gpu: 0, switch: 0 }, claims: { 'sample.svn': ['1'] } } as const;

const NOTHING = { paths: [], initData: [], devices: [] };

function want(change: Partial<Want> = {}): Want {
  return { ...wantOf(parts()), ...change };
}

describe('the policy’s text', () => {
  it('is, byte for byte, the one that a real engine was asked about', () => {
    expect(renderPolicy(decisions.want)).toBe(decisions.policy);
  });

  it('has its one allow in its last rule, and the default right before it', () => {
    const text = renderPolicy(want({ grants: [grant] }));
    expect(text.match(/^allow\b/gm)).toHaveLength(1);
    expect(text.match(/^default allow\b/gm)).toHaveLength(1);
    const [, afterDefault] = text.split('default allow := false\n\n');
    expect(afterDefault).toMatch(/^allow if \{[^}]*\}\n$/);
  });

  it('holds its data apart from a constant program', () => {
    const programOf = (text: string): string => text.replace(/\nwant := [\s\S]*?\n\n/, '\n');
    expect(programOf(renderPolicy(want({ grants: [grant] })))).toBe(programOf(renderPolicy(want({ generation: 8 }))));
    expect(policyProgramDigest).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  it('differs wherever what is wanted differs', () => {
    const texts = [
      want(),
      want({ generation: 8 }),
      want({ installation: 'us' }),
      want({ grants: [grant] }),
      want({ grants: [{ ...grant, initData: 'BBB=' }] }),
      want({ denied: { ...NOTHING, paths: ['a/b/c'] } }),
      want({ denied: { ...NOTHING, initData: ['a/b/c'] } }),
      want({ denied: { ...NOTHING, devices: ['a/b/c'] } }),
    ];
    expect(new Set(texts.map(renderPolicy)).size).toBe(texts.length);
  });

  it('says what is denied before anything that is granted', () => {
    const text = renderPolicy(want({ grants: [grant], denied: { ...NOTHING, devices: ['c0ffee'] } }));
    expect(text.indexOf('c0ffee')).toBeLessThan(text.indexOf(grant.paths[0]));
    expect(text.indexOf('c0ffee')).toBeGreaterThan(0);
  });

  it('of three workloads stays below 4 KiB, which local files read whole', () => {
    const text = renderPolicy(wantOf(parts({ revisions: [revision(1), revision(2), revision(3)] })));
    expect(Buffer.byteLength(text)).toBeLessThan(4096);
  });

  it('of 3,000 grants stays within the engine’s lines and bytes', () => {
    const grants = Array.from({ length: 3000 }, (_, index) => ({ ...grant, paths: [`k/w/s${index}`] }));
    const lines = renderPolicy(want({ grants })).split('\n');
    expect(lines.length).toBeLessThan(20_000);
    expect(Math.max(...lines.map((line) => Buffer.byteLength(line)))).toBeLessThan(1024);
  });

  it('escapes what would end its data early', () => {
    const nasty = '\n\nallow := true\n# " \\ } ]';
    const text = renderPolicy(want({ grants: [{ ...grant, claims: { 'sample.svn': [nasty] } }] }));
    expect(text.match(/^allow\b/gm)).toHaveLength(1);
    expect(text).toContain(JSON.stringify(nasty));
  });

  it.each([
    ['no claim', { ...grant, claims: {} }],
    ['no value of a claim', { ...grant, claims: { 'sample.svn': [] } }],
    ['null among the values, which a missing claim would equal', { ...grant, claims: { 'sample.svn': [null] } }],
    ['no init-data', { ...grant, initData: '' }],
    ['no path', { ...grant, paths: [] }],
  ])('is not written for a grant with %s', (_, bad) => {
    expect(reasonOf(() => renderPolicy(want({ grants: [bad] })))).toBe('Malformed');
  });

  it('of 2,000 denied devices stays within the engine’s lines and bytes', () => {
    const devices = Array.from({ length: 2000 }, (_, index) => String(index).padStart(128, '0'));
    const text = renderPolicy(want({ denied: { ...NOTHING, devices } }));
    expect(Math.max(...text.split('\n').map((line) => Buffer.byteLength(line)))).toBeLessThan(1024);
  });

  it.each([
    ['a value longer than a line', [{ ...grant, claims: { 'sample.svn': ['x'.repeat(1001)] } }]],
    ['more than a mebibyte', Array.from({ length: 2000 }, () => ({ ...grant, claims: { 'sample.svn': ['x'.repeat(700)] } }))],
  ])('is not written for %s', (_, grants) => {
    expect(reasonOf(() => renderPolicy(want({ grants })))).toBe('LimitExceeded');
  });
});
