/** The kinds of document, each with its folder in the watched repository (DESIGN §6). */
export type DocumentKind = 'Release' | 'Platform' | 'Revocation' | 'Reinstatement' | 'Withdrawal' | 'Baseline' | 'Trust';

/** What a path says of the document at it. */
export type Place =
  | { readonly kind: 'Release'; readonly workload: string; readonly serial: number }
  | { readonly kind: 'Platform'; readonly id: string; readonly serial: number }
  | { readonly kind: 'Baseline'; readonly kbs: string; readonly version: number }
  | { readonly kind: 'Trust'; readonly version: number }
  | { readonly kind: 'Revocation' | 'Reinstatement' | 'Withdrawal'; readonly id: string };

/** The folders that are read, revocations first: junk elsewhere must not keep one from being read. */
export const FOLDERS = ['revocations', 'trust', 'platforms', 'baseline', 'releases', 'withdrawals', 'reinstatements'] as const;

/**
 * The watched folder that a name at the repository's root was likely meant to be: it differs in case, in one or two
 * letters, or in letters that only look alike; null: it is one, or was meant to be none.
 */
export function folderMeant(name: string): (typeof FOLDERS)[number] | null {
  const letters = [...name.normalize('NFKC').toLowerCase()];
  if (FOLDERS.some((folder) => folder === name)) return null;
  // Of a short name, one letter more is another word: `test` is not `trust`.
  return FOLDERS.find((folder) => distance(letters, [...folder], folder.length < 8 ? 1 : 2) !== null) ?? null;
}

/** How many letters have to be put in, taken out or replaced (Levenshtein); null: more than `max`. */
function distance(from: readonly string[], to: readonly string[], max: number): number | null {
  if (Math.abs(from.length - to.length) > max) return null;
  let row = to.map((_, index) => index + 1);
  row.unshift(0);
  for (const [index, letter] of from.entries()) {
    const next = [index + 1];
    for (const [at, other] of to.entries()) {
      next.push(Math.min((row[at] ?? 0) + (letter === other ? 0 : 1), (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1));
    }
    row = next;
  }
  const found = row.at(-1) ?? 0;
  return found <= max ? found : null;
}

const ID = '([a-z0-9-]{1,60})';
/** One way to write a number, and one that a column holds: `01` and `1` would be two files for one serial. */
const NUMBER = '(0|[1-9][0-9]{0,8})';
const BUNDLE_END = /^(.+)\.([a-z0-9-]{1,60})\.sigstore\.json$/;

const forms: readonly { readonly form: RegExp; readonly place: (first: string, second: string) => Place }[] = [
  { form: new RegExp(`^releases/${ID}/${NUMBER}\\.yaml$`), place: (workload, serial) => ({ kind: 'Release', workload, serial: Number(serial) }) },
  { form: new RegExp(`^platforms/${ID}/${NUMBER}\\.yaml$`), place: (id, serial) => ({ kind: 'Platform', id, serial: Number(serial) }) },
  { form: new RegExp(`^baseline/${ID}/${NUMBER}\\.yaml$`), place: (kbs, version) => ({ kind: 'Baseline', kbs, version: Number(version) }) },
  { form: new RegExp(`^trust/${NUMBER}\\.yaml$`), place: (version) => ({ kind: 'Trust', version: Number(version) }) },
  { form: new RegExp(`^revocations/${ID}\\.yaml$`), place: (id) => ({ kind: 'Revocation', id }) },
  { form: new RegExp(`^reinstatements/${ID}\\.yaml$`), place: (id) => ({ kind: 'Reinstatement', id }) },
  { form: new RegExp(`^withdrawals/${ID}\\.yaml$`), place: (id) => ({ kind: 'Withdrawal', id }) },
];

/** What a document's path says; null: no document lives there. */
export function placeOf(path: string): Place | null {
  for (const { form, place } of forms) {
    const found = form.exec(path);
    if (found !== null) return place(found[1] ?? '', found[2] ?? '');
  }
  return null;
}

/** The document that a bundle's path (`<document without .yaml>.<signer>.sigstore.json`) belongs to; null: no bundle lives there. */
export function documentOfBundle(path: string): string | null {
  const found = BUNDLE_END.exec(path);
  const document = `${found?.[1] ?? ''}.yaml`;
  return found !== null && placeOf(document) !== null ? document : null;
}

/** The signer that a bundle's path names; null: no bundle lives there. Anybody may write any name. */
export function signerOfBundle(path: string): string | null {
  return documentOfBundle(path) === null ? null : (BUNDLE_END.exec(path)?.[2] ?? null);
}

/** Where a signer's bundle over a document lies. */
export function bundlePath(documentPath: string, signer: string): string {
  return `${documentPath.replace(/\.yaml$/, '')}.${signer}.sigstore.json`;
}
