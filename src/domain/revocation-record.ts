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
  /** Who took it back, as the receipt of `lift-revocation` quotes it (`reinstatement`, `justification`, `approvedBy`), and when; null: it stands. */
  readonly lifted: { readonly at: Instant; readonly said: { readonly [name: string]: Json } } | null;
}

/** Listens to receipts in the order of their runs' chains. */
export interface RevocationRecords {
  readonly hear: (receipt: Receipt) => void;
  /** In the order in which their first receipts were heard. */
  readonly all: () => readonly RevocationRecord[];
}

const QUOTED = ['id', 'subject', 'reason', 'why', 'approvedBy', 'recovery'];
const QUOTED_OF_LIFTING = ['reinstatement', 'justification', 'approvedBy'];

/** Keeps what the runs of the workflow `revoke` recorded, and who lifted what by one of `reinstate`; of all others nothing. */
export function openRevocationRecords(): RevocationRecords {
  const records = new Map<string, Omit<RevocationRecord, 'lifted'>>();
  const liftings = new Map<string, RevocationRecord['lifted']>();
  return {
    hear: ({ run, workflow, subject, step, at, proof, evidence, generations }) => {
      if (subject.kind !== 'revocation') return;
      if (workflow === 'reinstate' && step === 'lift-revocation')
        liftings.set(subject.revocation, { at, said: quoted(membersOf(evidence), QUOTED_OF_LIFTING) });
      if (workflow !== 'revoke') return;
      const before = records.get(run) ?? { run, revocation: subject.revocation, said: null, generations: {}, seen: [] };
      const said = step === 'confirm-refused' ? quotedRevocation(evidence) : before.said;
      records.set(run, { ...before, said, generations: { ...before.generations, ...generations }, seen: [...before.seen, { step, at, proof }] });
    },
    all: () => [...records.values()].map((record) => ({ ...record, lifted: liftings.get(record.revocation) ?? null })),
  };
}

/** The receipt calls the document's id by its name. */
function quotedRevocation(evidence: Json): { readonly [name: string]: Json } {
  const members = membersOf(evidence);
  return quoted({ ...members, id: members.revocation ?? null }, QUOTED);
}

function membersOf(evidence: Json): { readonly [name: string]: Json } {
  return typeof evidence === 'object' && evidence !== null && !Array.isArray(evidence) ? (evidence as { readonly [name: string]: Json }) : {};
}

function quoted(members: { readonly [name: string]: Json }, names: readonly string[]): { readonly [name: string]: Json } {
  return Object.fromEntries(names.map((name) => [name, Object.hasOwn(members, name) ? (members[name] ?? null) : null]));
}
