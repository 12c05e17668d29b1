/** The record of a revocation: when what was seen, and who lifts it. */
import { parseDocument } from '#src/domain/documents/parse.ts';
import type { Json } from '#src/domain/json.ts';
import { sawWords } from '#src/domain/revocation-words.ts';
import { type Instant, millisecondsOf } from '#src/instant.ts';
import type { RevocationOrigin } from './dashboard-revocation.ts';
import type { RunView } from './dashboard-runs.ts';
import type { Db } from './database.ts';
import { helpFor } from './status.ts';

/** Evidence of so much is read for what it saw; what is longer is in the export. Characters. */
const EVIDENCE_MAX = 262_144;
/** Reinstatements that lie on the branch and are not accepted: they are looked through for those that name this revocation. */
const REINSTATEMENTS_READ = 200;

/** A moment of a revocation. */
export interface TimeLineEntry {
  readonly at: Instant;
  /** Since the webhook of whatever completed it, its document or its last signature; where none hinted at that, since it was seen. Negative: before. */
  readonly milliseconds: number;
  readonly event: 'hinted' | 'seen' | 'signature-hinted' | 'signed' | 'accepted' | 'lifting-accepted' | 'receipt';
  /** Of an event `receipt` alone, like all below; of the others null or empty. */
  readonly receipt: TimeLineReceipt | null;
}

/** The receipt behind a moment. */
export interface TimeLineReceipt {
  readonly run: string;
  readonly workflow: string;
  readonly step: string;
  readonly number: number;
  /** Its place in the log, as the export has it; null: the next head numbers it. */
  readonly seq: number | null;
  readonly digest: string;
  readonly proof: string | null;
  /** What it saw, a line each. */
  readonly saw: readonly string[];
}

/** A reinstatement that names a revocation. */
export interface Lifting {
  readonly path: string;
  readonly justification: string | null;
  readonly approvedBy: readonly string[];
  readonly verdict: 'waiting' | 'accepted' | 'refused';
  readonly reason: string | null;
  readonly about: string | null;
  readonly help: string | null;
  readonly firstSeenAt: Instant;
  readonly acceptedAt: Instant | null;
}

/** What the time line counts from: the webhook of the document, or of the last signature where that came later; without one, when it was seen. */
function completedAt({ hintedAt, firstSeenAt, signed }: Pick<RevocationOrigin, 'hintedAt' | 'firstSeenAt' | 'signed'>): Instant {
  return signed === null ? (hintedAt ?? firstSeenAt) : (signed.hintedAt ?? signed.seenAt);
}

/** Whether that was a webhook. */
export function isHinted({ hintedAt, signed }: Pick<RevocationOrigin, 'hintedAt' | 'signed'>): boolean {
  return (signed === null ? hintedAt : signed.hintedAt) !== null;
}

/** All that is known to have happened, in order of time. */
export async function timeLineOf(db: Db, origin: RevocationOrigin, runs: readonly RunView[], liftings: readonly Lifting[]): Promise<readonly TimeLineEntry[]> {
  const { hintedAt, firstSeenAt, signed, acceptedAt } = origin;
  const from = completedAt(origin);
  const entry = (event: TimeLineEntry['event'], at: Instant | null, receipt: TimeLineReceipt | null = null): readonly TimeLineEntry[] =>
    at === null ? [] : [{ at, milliseconds: millisecondsOf(at) - millisecondsOf(from), event, receipt }];
  const evidence = await evidenceOf(
    db,
    runs.map(({ id }) => id),
  );
  const receipts = runs.flatMap(({ id, workflow, receipts: own }) =>
    own.flatMap(({ step, number, seq, at, digest, proof, because }) => {
      const found = evidence.get(`${id}/${number}`);
      const saw = because !== null ? [because] : found === undefined ? ['what it saw is long: keyturn receipts export has it'] : sawWords(step, found);
      return entry('receipt', at, { run: id, workflow, step, number, seq, digest, proof, saw });
    }),
  );
  const completed = signed === null ? [] : [...entry('signature-hinted', signed.hintedAt), ...entry('signed', signed.seenAt)];
  const accepted = liftings.flatMap((lifting) => entry('lifting-accepted', lifting.acceptedAt));
  const all = [...entry('hinted', hintedAt), ...entry('seen', firstSeenAt), ...completed, ...entry('accepted', acceptedAt), ...receipts, ...accepted];
  return all.sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}

async function evidenceOf(db: Db, runs: readonly string[]): Promise<ReadonlyMap<string, Json>> {
  const { rows } = await db.query<{ name: string; evidence: Json }>(
    `select run || '/' || number as name, body::jsonb -> 'evidence' as evidence from receipts where run = any($1) and length(body) <= $2`,
    [runs, EVIDENCE_MAX],
  );
  return new Map(rows.map(({ name, evidence }) => [name, evidence]));
}

/** Reinstatements that name a revocation: those that were accepted of this very document, and those on the branch that wait or were refused. */
export async function liftingsOf(db: Db, id: string, digest: string): Promise<readonly Lifting[]> {
  const { rows } = await db.query<Omit<Lifting, 'justification' | 'help'> & { readonly bytes: Buffer; readonly own: boolean }>(
    `select path, bytes, approved_by as "approvedBy", verdict, reason, about, first_seen_at as "firstSeenAt", verdict = 'accepted' as own,
       case when verdict = 'accepted' then judged_at end as "acceptedAt"
     from documents where kind = 'Reinstatement' and ((verdict = 'accepted' and subject ->> 'revocation' = $1) or (verdict <> 'accepted' and present))
     order by verdict = 'accepted' desc, seen limit $2`,
    [digest, REINSTATEMENTS_READ],
  );
  return rows.flatMap(({ bytes, own, ...row }) => {
    const parsed = parseDocument(row.path, bytes);
    const document = parsed.kind === 'parsed' && parsed.document.kind === 'Reinstatement' ? parsed.document : null;
    if (!own && document?.revocation !== id) return [];
    return [{ ...row, justification: document?.justification ?? null, help: row.verdict === 'accepted' ? null : helpFor(row.reason) }];
  });
}
