/**
 * What a platform's new serial no longer lists, and whether a guest still rests on it: pure functions
 * over accepted platform documents, what was let go of them, and attestation results (`examples` of a platform say the rule).
 */
import { decodeToken, evidenceOf, type Members, memberOf, membersOf } from './attestation-token.ts';
import type { Tee } from './documents/fields.ts';
import type { PlatformDocument } from './documents/release.ts';
import { canonicalJson, type Json } from './json.ts';
import { grantClaim } from './want.ts';

/** One value of a platform, as a document lists it. */
export type PlatformValue = PlatformDocument['referenceValues'][string][number];

/** A value that was let go: no document of a lower serial brings it back. A newer one that lists it again does. */
export interface LetGo {
  readonly platform: string;
  /** Of the document that no longer listed it. */
  readonly serial: number;
  readonly name: string;
  readonly value: PlatformValue;
}

/** A value that earlier serials of a platform have and its newest has not, and that was not let go. */
export interface Predecessor extends LetGo {
  /** Of the documents that list it. */
  readonly tees: readonly Tee[];
}

/**
 * Names beside those that grants are written on, which Trustee's own policies compare with a claim of
 * `cpu0` by membership (`in`): the value that a guest rests on can be read from its token. A name that is compared in another
 * way (`==`, `>=`) is not one: a guest may rest on a value without having it.
 */
const CPU_CLAIMS: Readonly<Record<Tee, Readonly<Record<string, string>>>> = {
  snp: {
    snp_bootloader: 'snp.reported_tcb_bootloader',
    snp_microcode: 'snp.reported_tcb_microcode',
    snp_snp_svn: 'snp.reported_tcb_snp',
    snp_tee_svn: 'snp.reported_tcb_tee',
  },
  tdx: { xfam: 'tdx.quote.body.xfam' },
  sample: { launch_digest: 'sample.launch_digest' },
  'az-snp-vtpm': {},
  'az-tdx-vtpm': {},
};

/** The same of each `gpu<n>`, as NVIDIA's remote service writes its claims. The local verifier writes others: those tokens cannot be read. */
const GPU_CLAIMS: Readonly<Record<string, readonly [string, string]>> = {
  allowed_driver_versions: ['nvidia', 'x-nvidia-gpu-driver-version'],
  allowed_vbios_versions: ['nvidia', 'x-nvidia-gpu-vbios-version'],
};

/** Values that only earlier serials of a platform have, each once, in the order of platform, name and value. */
export function predecessorsOf(platforms: readonly PlatformDocument[], letGo: readonly LetGo[]): readonly Predecessor[] {
  const standing = withoutLetGo(platforms, letGo);
  const found = new Map<string, Predecessor>();
  for (const [platform, documents] of Map.groupBy(standing, ({ id }) => id)) {
    const serial = Math.max(...platforms.filter(({ id }) => id === platform).map((document) => document.serial));
    const newest = new Set(platforms.filter((document) => document.id === platform && document.serial === serial).flatMap(textsOf));
    for (const { tee, referenceValues } of documents) {
      for (const [name, values] of Object.entries(referenceValues)) {
        for (const value of values.filter((one) => !newest.has(textOf(name, one)))) {
          const key = `${platform} ${textOf(name, value)}`;
          found.set(key, { platform, serial, name, value, tees: [...new Set([...(found.get(key)?.tees ?? []), tee])] });
        }
      }
    }
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, predecessor]) => predecessor);
}

/** The documents as they count: without what was let go of them. */
export function withoutLetGo(platforms: readonly PlatformDocument[], letGo: readonly LetGo[]): readonly PlatformDocument[] {
  if (letGo.length === 0) return platforms;
  return platforms.map((document) => {
    const gone = new Set(
      letGo.filter(({ platform, serial }) => platform === document.id && serial > document.serial).map(({ name, value }) => textOf(name, value)),
    );
    const left = Object.entries(document.referenceValues).map(([name, values]) => [name, values.filter((value) => !gone.has(textOf(name, value)))] as const);
    return { ...document, referenceValues: Object.fromEntries(left.filter(([, values]) => values.length > 0)) };
  });
}

/** Whether it is known which claim of a token tells the value of this name. */
export function isReadable(tee: Tee, name: string): boolean {
  return cpuClaim(tee, name) !== null || Object.hasOwn(GPU_CLAIMS, name);
}

/**
 * Which values of a name a guest was found to have, as text: a verifier may write a number that the
 * document writes as text, and who is not sure keeps. Empty: it has no device that has one. null: the
 * token does not tell. The token's signature is not checked here.
 */
export function restsOn(token: string, tee: Tee, name: string): readonly string[] | null {
  const submods = membersOf(memberOf(decodeToken(token)?.payload, 'submods'));
  const cpu = evidenceOf(memberOf(submods ?? undefined, 'cpu0'));
  if (submods === null || cpu === null || membersOf(memberOf(cpu, tee)) === null) return null;
  const path = cpuClaim(tee, name);
  if (path !== null) return allTold([claimAt(cpu, path.split('.'))]);
  const claim = Object.hasOwn(GPU_CLAIMS, name) ? GPU_CLAIMS[name] : undefined;
  if (claim === undefined) return null;
  const devices = Object.keys(submods).filter((submod) => /^gpu\d+$/.test(submod));
  return allTold(devices.map((device) => claimAt(evidenceOf(submods[device]) ?? {}, claim)));
}

function cpuClaim(tee: Tee, name: string): string | null {
  return grantClaim(tee, name) ?? (Object.hasOwn(CPU_CLAIMS[tee], name) ? (CPU_CLAIMS[tee][name] ?? null) : null);
}

function claimAt(evidence: Members, path: readonly string[]): Json | undefined {
  return path.reduce<Json | undefined>((value, member) => memberOf(value, member), evidence as Json);
}

function allTold(values: readonly (Json | undefined)[]): readonly string[] | null {
  const texts = values.map((value) => (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : null));
  return texts.every((text) => text !== null) ? texts : null;
}

function textsOf({ referenceValues }: PlatformDocument): readonly string[] {
  return Object.entries(referenceValues).flatMap(([name, values]) => values.map((value) => textOf(name, value)));
}

function textOf(name: string, value: PlatformValue): string {
  return canonicalJson([name, value]);
}
