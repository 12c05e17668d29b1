import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Certificate, certificatesIn } from '#src/domain/collateral/certificate.ts';
import { scopeOf, type Trust, vendorTrust } from '#src/domain/collateral/chain.ts';
import type { Finding } from '#src/domain/collateral/finding.ts';
import { certificatesOf, type Item, keySetsOf, listsOf } from '#src/domain/collateral/item.ts';
import { judgeItem } from '#src/domain/collateral/judge.ts';
import { readItem } from '#src/domain/collateral/read.ts';
import { readRim } from '#src/domain/collateral/rim.ts';
import { parseInstant } from '#src/instant.ts';

/** Genuine files, with where each comes from (`MANIFEST.md` beside them). */
export const VECTORS = resolve(import.meta.dirname, '../../vectors/collateral');

/** What the manifest says of a file. */
export interface Entry {
  readonly file: string;
  readonly sha256: string;
  readonly issued: string;
  readonly expires: string;
  readonly expected: string;
}

export const manifest = JSON.parse(readFileSync(join(VECTORS, 'manifest.json'), 'utf8')) as readonly Entry[];

/** A genuine file's bytes. */
export function vector(file: string): Buffer {
  return readFileSync(join(VECTORS, file));
}

/** Certificates of a genuine file. */
export function certificatesFrom(file: string): readonly Certificate[] {
  return certificatesIn(vector(file).toString('latin1'));
}

/** Under what a file is judged in a test. Everything but the moment has a default. */
export interface Given {
  readonly at: string;
  /** Other files of the same call. */
  readonly with?: readonly Buffer[];
  readonly trust?: Trust;
}

const VENDORS = vendorTrust();

/** One file, judged as `keyturn collateral verify` does, but for the thread that reads XML. */
export async function judged(bytes: Buffer, { at, with: others = [], trust = VENDORS }: Given): Promise<Finding> {
  const item = readItem(bytes);
  return judgedAmong(item, [item, ...others.map(readItem)], at, trust);
}

/** An item among those of the same call. */
export async function judgedAmong(item: Item, all: readonly Item[], at: string, trust: Trust = VENDORS): Promise<Finding> {
  const scope = scopeOf(parseInstant(at), trust, all.flatMap(certificatesOf), all.flatMap(listsOf));
  return judgeItem(item, scope, { keySets: all.flatMap(keySetsOf), readRim: async (xml) => readRim(xml) });
}

/** `verdict reason`, or `good`. */
export function told({ verdict, reason }: Finding): string {
  return reason === null ? verdict : `${verdict} ${reason}`;
}
