import { describe, expect, it } from 'vitest';
import { type IntelFields, intelFieldsOf } from '#src/domain/collateral/intel.ts';
import { readItem } from '#src/domain/collateral/read.ts';
import { generationTrouble, type Requested, requestTrouble, rollbackTrouble } from '#src/domain/collateral/requested.ts';
import { dueAt, standingOf, type Used } from '#src/domain/collateral/standing.ts';
import { trusteeFileTrouble } from '#src/domain/collateral/trustee-file.ts';
import { later, parseInstant } from '#src/instant.ts';
import { vector } from './vectors.ts';

function signedIn(file: string): readonly { readonly member: 'tcbInfo' | 'enclaveIdentity' | 'tcbEvaluationDataNumbers'; readonly text: string }[] {
  return readItem(vector(file)).parts.flatMap((part) => (part.kind === 'intel' ? [part.signed] : []));
}

function fieldsIn(file: string): IntelFields {
  const [signed] = signedIn(file);
  const fields = signed === undefined ? null : intelFieldsOf(signed);
  if (fields === null || 'verdict' in fields) throw new Error(`${file} cannot be read`);
  return fields;
}

describe('an answer', () => {
  const tcb = fieldsIn('intel/teepot-pcs-v4/tdx_tcb_info.json');
  const asked: Requested = { member: 'tcbInfo', id: 'TDX', fmspc: '00806F050000', evaluation: null };

  it('has to be the one that was asked for', () => {
    expect(requestTrouble(tcb, asked)).toBeNull();
    expect(requestTrouble(tcb, { ...asked, evaluation: 17 })).toBeNull();
    expect(requestTrouble(tcb, { ...asked, evaluation: 19 })?.reason).toBe('CollateralMismatch');
    expect(requestTrouble(tcb, { ...asked, id: 'SGX' })?.reason).toBe('CollateralMismatch');
    expect(requestTrouble(tcb, { ...asked, fmspc: '00906ED50000' })?.reason).toBe('CollateralMismatch');
    expect(requestTrouble(fieldsIn('intel/teepot-pcs-v4/tdx_qe_identity.json'), asked)?.reason).toBe('CollateralMismatch');
  });

  it('in lower case is another one: what Trustee makes of it does not verify', () => {
    const lower = fieldsIn('intel/go-tdx-guest/sample_tcbInfo_response');
    expect(requestTrouble(lower, { ...asked, fmspc: '50806F000000' })).toMatchObject({ reason: 'CollateralMismatch' });
    expect(requestTrouble(lower, { ...asked, fmspc: '50806f000000' })).toBeNull();
  });

  it('is of one generation with the rest of its set', () => {
    const identity = fieldsIn('intel/teepot-pcs-v4/tdx_qe_identity.json');
    expect(generationTrouble([tcb, identity, fieldsIn('intel/teepot-pcs-v4/tdx_tcb_eval_nums.json')])).toBeNull();
    expect(generationTrouble([tcb, fieldsIn('intel/go-tdx-guest/sample_qeIdentity_response')])?.reason).toBe('CollateralMismatch');
  });

  it('does not go back behind the one in use', () => {
    const early = fieldsIn('intel/teepot-pcs-v4/sgx_tcb_info_early.json');
    const standard = fieldsIn('intel/teepot-pcs-v4/sgx_tcb_info_alt.json');
    expect(rollbackTrouble(early, standard)?.reason).toBe('CollateralRolledBack');
    expect(rollbackTrouble(standard, early)).toBeNull();
    expect(rollbackTrouble(tcb, tcb)).toBeNull();
    expect(rollbackTrouble(tcb, { ...tcb, issuedAt: later(tcb.issuedAt, -1) })?.reason).toBe('CollateralRolledBack');
  });
});

describe('Trustee’s file backend', () => {
  const LOSSLESS = [
    'intel/teepot-pcs-v4/tdx_tcb_info.json',
    'intel/teepot-pcs-v4/sgx_tcb_info_early.json',
    'trustee/tdx/tcbInfo.json',
    'trustee/tdx/enclaveIdentity.json',
    'derived/trustee-platform_collaterals.2025-06-19.json',
    'intel/phala-dcap-qvl/tdx_quote_outdated_collateral.json',
  ];
  it.each(LOSSLESS)('%s survives it', (file) => {
    expect(signedIn(file).length).toBeGreaterThan(0);
    expect(
      signedIn(file)
        .map(trusteeFileTrouble)
        .filter((one) => one !== null),
    ).toEqual([]);
  });

  const [good = { member: 'tcbInfo' as const, text: '' }] = signedIn('trustee/tdx/tcbInfo.json');
  it.each([
    ['a platform in lower case', '00A06D080000', '00a06d080000'],
    ['a member that it does not know', '"tcbType":0', '"tcbType":0,"more":1'],
    ['members in another order', '"pceId":"0000","tcbType":0', '"tcbType":0,"pceId":"0000"'],
    ['a status that it does not know', '"UpToDate"', '"Perfect"'],
    ['white space', '"tcbType":0', '"tcbType": 0'],
    ['a number as text', '"tcbType":0', '"tcbType":"0"'],
  ])('%s does not', (_, from, to) => {
    const text = good.text.replace(from, to);
    expect(text).not.toBe(good.text);
    expect(trusteeFileTrouble({ member: 'tcbInfo', text })?.reason).toBe('CollateralLossy');
  });

  it('genuine documents in lower case do not either', () => {
    expect(signedIn('intel/go-tdx-guest/sample_tcbInfo_response').map((one) => trusteeFileTrouble(one)?.reason)).toEqual(['CollateralLossy']);
  });
});

describe('where an item stands', () => {
  const issuedAt = parseInstant('2026-01-01T00:00:00Z');
  const used = (cadence: Used['cadence'], days: number): Used => ({ cadence, verdict: 'good', issuedAt, nextUpdate: later(issuedAt, days * 86_400) });
  const standing = (item: Used, days: number): string => standingOf(item, later(issuedAt, days * 86_400));

  it('signed on demand: due at a third of its life, late at half, urgent in the last six days', () => {
    const tcb = used('on-demand', 30);
    expect([0, 9.9, 10, 15, 15.1, 23.9, 24.1, 29.9, 30].map((days) => standing(tcb, days))).toEqual([
      'Fresh',
      'Fresh',
      'Due',
      'Due',
      'Late',
      'Late',
      'Urgent',
      'Urgent',
      'Expired',
    ]);
    expect(dueAt(tcb)).toBe(later(issuedAt, 10 * 86_400));
  });

  it.each([
    ['amd-crl', 46, 35.9, 36.1, 41.1],
    ['root-crl', 365, 334.9, 335.1, 351.1],
    ['rim', 730, 699.9, 700.1, 716.1],
    ['vlek', 365, 304.9, 305.1, 344.1],
  ] as const)('%s: by what is left alone', (cadence, life, fresh, late, urgent) => {
    expect([0, fresh, late, urgent, life].map((days) => standing(used(cadence, life), days))).toEqual(['Fresh', 'Fresh', 'Late', 'Urgent', 'Expired']);
  });

  it('what is not good is untrusted, whatever its dates say; what has expired is expired', () => {
    for (const verdict of ['revoked', 'tampered', 'untrusted', 'malformed'] as const)
      expect(standingOf({ ...used('on-demand', 30), verdict }, issuedAt)).toBe('Untrusted');
    expect(standingOf({ ...used('on-demand', 30), verdict: 'expired' }, issuedAt)).toBe('Expired');
    expect(standingOf({ ...used('rim', 730), nextUpdate: issuedAt }, issuedAt)).toBe('Expired');
  });
});
