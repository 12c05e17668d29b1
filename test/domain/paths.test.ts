import { describe, expect, it } from 'vitest';
import { keyPathFrom, parseKeyPath, probePath } from '#src/domain/paths.ts';

const PARTS = { rotation: 'r-00112233aabbccdd', pathNumber: 0, workload: 'w-7f3a', serial: 12, epoch: 4 };

describe('a key path', () => {
  it('names one revision: another rotation or number is another path', () => {
    const path = keyPathFrom('keyturn-eu', PARTS);
    expect(path).toMatch(/^keyturn-eu\/w-7f3a\/s12-v4-0-[0-9a-f]{8}$/);
    expect(keyPathFrom('keyturn-eu', { ...PARTS, rotation: 'r-ffeeddccbbaa0099' })).not.toBe(path);
    expect(keyPathFrom('keyturn-eu', { ...PARTS, pathNumber: 1 })).not.toBe(path);
  });

  it('is a path that Trustee takes: three segments, none of which begins with a dot', () => {
    expect(keyPathFrom('keyturn-eu', PARTS)).toMatch(/^(?:[A-Za-z0-9_-]+[A-Za-z0-9_.-]*\/){2}[A-Za-z0-9_-]+[A-Za-z0-9_.-]*$/);
  });

  it('tells its workload, serial and epoch; a foreign path tells nothing', () => {
    expect(parseKeyPath(keyPathFrom('keyturn-eu', PARTS))).toEqual({ workload: 'w-7f3a', serial: 12, epoch: 4 });
    for (const foreign of ['default/credential/registry', 'keyturn/probe/g000000000001', 'a/b/s1-v1-0-xyz']) expect(parseKeyPath(foreign)).toBeNull();
  });
});

describe('a probe path', () => {
  it('is of fixed width, so that the order of the texts is the order of the generations', () => {
    expect(probePath(9) < probePath(10)).toBe(true);
    expect(probePath(7)).toBe('keyturn/probe/g000000000007');
  });
});
