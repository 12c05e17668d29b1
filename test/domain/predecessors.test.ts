/** What a platform's new serial no longer lists, and who rests on it still. */
import { describe, expect, it } from 'vitest';
import type { PlatformDocument } from '#src/domain/documents/release.ts';
import { isReadable, predecessorsOf, restsOn, withoutLetGo } from '#src/domain/predecessors.ts';

function platform(serial: number, referenceValues: PlatformDocument['referenceValues'], change: Partial<PlatformDocument> = {}): PlatformDocument {
  return { apiVersion: 'keyturn.dev/v1alpha1', kind: 'Platform', id: 'milan', serial, previous: null, tee: 'snp', referenceValues, ...change };
}

/** A token whose signature nobody asks about here. */
function tokenOf(submods: object): string {
  return ['{}', JSON.stringify({ submods }), ''].map((part) => Buffer.from(part).toString('base64url')).join('.');
}

function evidence(claims: object): object {
  return { 'ear.veraison.annotated-evidence': claims };
}

const SNP = evidence({ snp: { reported_tcb_microcode: 219, measurement: 'ab' } });

describe('predecessors of a platform', () => {
  const old = platform(1, { snp_microcode: [213, 219], snp_bootloader: [9] });
  const now = platform(2, { snp_microcode: [219, 222], snp_bootloader: [9] });

  it('are the values that no document but earlier ones lists', () => {
    expect(predecessorsOf([old, now], [])).toEqual([{ platform: 'milan', serial: 2, name: 'snp_microcode', value: 213, tees: ['snp'] }]);
    expect(predecessorsOf([now], [])).toEqual([]);
  });

  it('of another platform are its own', () => {
    expect(predecessorsOf([old, platform(2, { snp_microcode: [222] }, { id: 'genoa' })], [])).toEqual([]);
  });

  it('that were let go are gone, and come back by a newer document alone', () => {
    const gone = [{ platform: 'milan', serial: 2, name: 'snp_microcode', value: 213 }];
    expect(predecessorsOf([old, now], gone)).toEqual([]);
    expect(withoutLetGo([old, now], gone).map(({ referenceValues }) => referenceValues.snp_microcode)).toEqual([[219], [219, 222]]);
    const back = platform(3, { snp_microcode: [213, 222], snp_bootloader: [9] });
    expect(withoutLetGo([old, now, back], gone)[2]?.referenceValues.snp_microcode).toEqual([213, 222]);
    const fourth = platform(4, { snp_microcode: [222], snp_bootloader: [9] });
    expect(predecessorsOf([old, now, back, fourth], gone).map(({ serial, value }) => [serial, value])).toEqual([
      [4, 213],
      [4, 219],
    ]);
  });

  it('leave no name without a value behind', () => {
    const gone = [{ platform: 'milan', serial: 2, name: 'snp_tee_svn', value: 0 }];
    expect(Object.keys(withoutLetGo([platform(1, { snp_tee_svn: [0] }), now], gone)[0]?.referenceValues ?? {})).toEqual([]);
  });
});

describe('what a guest rests on', () => {
  it('is read from its token where the name is compared by membership', () => {
    expect(restsOn(tokenOf({ cpu0: SNP }), 'snp', 'snp_microcode')).toEqual(['219']);
    expect(restsOn(tokenOf({ cpu0: SNP }), 'snp', 'snp_launch_measurement')).toEqual(['ab']);
  });

  it('of its devices is read from each of them; a guest without any rests on none', () => {
    const gpu = (version: string) => evidence({ nvidia: { 'x-nvidia-gpu-driver-version': version } });
    expect(restsOn(tokenOf({ cpu0: SNP, gpu0: gpu('570.1'), gpu1: gpu('570.2') }), 'snp', 'allowed_driver_versions')).toEqual(['570.1', '570.2']);
    expect(restsOn(tokenOf({ cpu0: SNP }), 'snp', 'allowed_driver_versions')).toEqual([]);
    expect(restsOn(tokenOf({ cpu0: SNP, gpu0: evidence({ nvidia: { config: {} } }) }), 'snp', 'allowed_driver_versions'), 'the local verifier’s').toBeNull();
  });

  it('cannot be told from a token of another kind, of another shape, or of none', () => {
    for (const token of ['', 'a.b.c', tokenOf({}), tokenOf({ cpu0: evidence({ tdx: {} }) }), tokenOf({ cpu0: evidence({ snp: {} }) })]) {
      expect(restsOn(token, 'snp', 'snp_microcode'), token).toBeNull();
    }
  });

  it('is not known of a name that is compared otherwise, or of none that we know', () => {
    expect(['minimum_minor_version', 'major_version', 'constructor'].map((name) => isReadable('sample', name))).toEqual([false, false, false]);
    expect([isReadable('snp', 'snp_smt_enabled'), isReadable('snp', 'snp_tee_svn'), isReadable('az-snp-vtpm', 'tcb_tee')]).toEqual([false, true, false]);
  });
});
