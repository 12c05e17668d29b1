/**
 * What it costs to judge collateral: 1,000 items, from their bytes to the verdict, in CPU time.
 *
 *   node test/bench/collateral.ts [--json]
 */
import { verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { scopeOf } from '#src/domain/collateral/chain.ts';
import { certificatesOf, listsOf } from '#src/domain/collateral/item.ts';
import { judgeItem } from '#src/domain/collateral/judge.ts';
import { readItem } from '#src/domain/collateral/read.ts';
import { readRim } from '#src/domain/collateral/rim.ts';
import { parseInstant } from '#src/instant.ts';
import { intelSigned, type Made, make, makeList, pem, trusting } from '../domain/collateral/pki.ts';
import { type Bar, tellBars } from './bar.ts';

const PLATFORMS = 250;
const TARGET_SECONDS = 2;
const AT = parseInstant('2025-06-15T00:00:00Z');
/** Intel's longest list has as many. */
const REVOKED = Array.from({ length: 57 }, (_, place) => place + 20);
const VECTORS = resolve(import.meta.dirname, '../vectors/collateral/intel/teepot-pcs-v4');

/** The text that Intel signed of a genuine answer, as this bench signs it again for other platforms. */
function genuine(file: string, outer: string): string {
  const body = JSON.parse(readFileSync(join(VECTORS, file), 'utf8')) as Record<string, string>;
  const member = outer.endsWith('_json') ? (JSON.parse(body[outer] ?? '') as Record<string, object>) : {};
  return JSON.stringify(Object.values(member)[0]);
}

interface Set {
  readonly items: readonly Buffer[];
  readonly trust: ReturnType<typeof trusting>;
  readonly signer: Made;
}

/** Four kinds for each of so many platforms, each with the chain that PCS sends along. */
function makeItems(): Set {
  const root = make({ name: 'Intel SGX Root CA', ca: true });
  const signer = make({ name: 'Intel SGX TCB Signing', by: root, serial: 8 });
  const authority = make({ name: 'Intel SGX PCK Platform CA', by: root, ca: true, serial: 9 });
  const [tcbChain, pckChain] = [pem(signer, root), pem(authority, root)];
  const texts = [
    ['tcbInfo', 'tcb_info_json', genuine('tdx_tcb_info.json', 'tcb_info_json')],
    ['tcbInfo', 'tcb_info_json', genuine('sgx_tcb_info_early.json', 'tcb_info_json')],
    ['enclaveIdentity', 'enclave_identity_json', genuine('tdx_qe_identity.json', 'enclave_identity_json')],
  ] as const;
  const list = makeList({ by: authority, revoked: REVOKED }).toString('base64');
  const items = Array.from({ length: PLATFORMS }, (_, place) => {
    const fmspc = place.toString(16).toUpperCase().padStart(12, '0');
    const signed = texts.map(([member, outer, text]) => {
      const own = text.replace(/"fmspc":"[0-9A-F]{12}"/, `"fmspc":"${fmspc}"`);
      return Buffer.from(JSON.stringify({ issuer_chain: tcbChain, [outer]: intelSigned(member, own, signer) }));
    });
    return [...signed, Buffer.from(JSON.stringify({ issuer_chain: pckChain, crl_data_base64: list }))];
  }).flat();
  return { items, trust: trusting('intel', root), signer };
}

/** Seconds of this process's CPU time, all threads counted. */
async function cpuSeconds(work: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

/** Judges them all in one call, as `keyturn collateral verify` does. */
export async function benchCollateral(): Promise<readonly Bar[]> {
  const { items, trust, signer } = makeItems();
  const judgeAll = async (): Promise<void> => {
    const read = items.map(readItem);
    const scope = scopeOf(AT, trust, read.flatMap(certificatesOf), read.flatMap(listsOf));
    for (const item of read) {
      const { verdict, item: name } = await judgeItem(item, scope, { keySets: [], readRim: async (xml) => readRim(xml) });
      if (verdict !== 'good') throw new Error(`${name} is ${verdict}`);
    }
  };
  const value = await cpuSeconds(judgeAll);
  const [sample = Buffer.alloc(0)] = items;
  const bare = await cpuSeconds(async () => {
    for (let place = 0; place < items.length; place += 1)
      verify('sha256', sample, { key: signer.certificate.key, dsaEncoding: 'ieee-p1363' }, Buffer.alloc(64, 1));
  });
  const target = `≤ ${TARGET_SECONDS} s of CPU`;
  const peer = 'as many signatures checked, and nothing else';
  return [{ bar: '1,000 items of collateral judged', value, unit: 's', target, peer, peerValue: bare, met: value <= TARGET_SECONDS }];
}

if (import.meta.main) tellBars(await benchCollateral(), process.argv.includes('--json'));
