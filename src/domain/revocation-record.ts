/** Who revoked what, and when it was refused, from receipts alone. */
import type { Instant } from '../instant.ts';
import type { Json } from './json.ts';
import type { Receipt } from './receipts.ts';

/** What one revocation's receipts say. */
export interface RevocationRecord {
  readonly run: string;
  /** Digest of the document: `revocations/<id>.yaml` of the repository has it. */
  readonly revocation: string;
  /** What the document said, as the receipt of `confirm-refused` quotes it (`id`, `subject`, `reason`, `why`, `approvedBy`, `recovery`); null: not confirmed yet. */
  readonly said: { readonly [name: string]: Json } | null;
  /** The generation from which each KBS's policy refuses it. */
  readonly generations: Readonly<Record<string, number>>;
  /** What was seen of it, in order; `accepted` where only a system's answer vouches for it. */
  readonly seen: readonly { readonly step: string; readonly at: Instant; readonly proof: Receipt['proof'] }[];
}

/** Listens to receipts in the order of their runs' chains. */
export interface RevocationRecords {
  readonly hear: (receipt: Receipt) => void;
  /** In the order in which their first receipts were heard. */
  readonly all: () => readonly RevocationRecord[];
}

const QUOTED = ['id', 'subject', 'reason', 'why', 'approvedBy', 'recovery'];

/** Keeps what the runs of the workflow `revoke` recorded; of all others nothing. */
export function openRevocationRecords(): RevocationRecords {
  const records = new Map<string, RevocationRecord>();
  return {
    hear: ({ run, workflow, subject, step, at, proof, evidence, generations }) => {
      if (workflow !== 'revoke' || subject.kind !== 'revocation') return;
      const before = records.get(run) ?? { run, revocation: subject.revocation, said: null, generations: {}, seen: [] };
      const said = step === 'confirm-refused' ? quoted(evidence) : before.said;
      records.set(run, { ...before, said, generations: { ...before.generations, ...generations }, seen: [...before.seen, { step, at, proof }] });
    },
    all: () => [...records.values()],
  };
}

/** The receipt calls the document's id by its name. */
function quoted(evidence: Json): { readonly [name: string]: Json } {
  const members = typeof evidence === 'object' && evidence !== null && !Array.isArray(evidence) ? (evidence as { readonly [name: string]: Json }) : {};
  const all = { ...members, id: members.revocation ?? null };
  return Object.fromEntries(QUOTED.map((name) => [name, Object.hasOwn(all, name) ? (Reflect.get(all, name) as Json) : null]));
}
