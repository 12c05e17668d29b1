import type { Instant } from '../instant.ts';
import { parseDocument } from './documents/parse.ts';
import type { ReinstatementDocument, RevocationDocument } from './documents/trust.ts';
import { type Checked, type Evidence, type Judged, signedBy, trustBar } from './judge.ts';
import type { Reason } from './reasons.ts';

/** A checked reinstatement. */
export type Reinstatement = Checked<ReinstatementDocument>;

/** Why something is not lifted. */
interface Bar {
  readonly kind: 'refused';
  readonly reason: Reason;
  readonly about: string;
}

/**
 * Judges a reinstatement: signed by enough recoverers, who are never one alone by the rules of the trust
 * document that it names. Whether what it names can be lifted is `liftBar`'s to say. `now` null: its
 * signatures' second judgement, when the trust document's expiry is not asked any more.
 */
export function verifyReinstatement(evidence: Evidence, now: Instant | null): Judged<Reinstatement> {
  const { file, trust } = evidence;
  const parsed = parseDocument(file.path, file.bytes);
  if (parsed.kind === 'bad') return { ...parsed, kind: 'refused' };
  if (parsed.document.kind !== 'Reinstatement') return { kind: 'refused', reason: 'WrongPlace', about: `${file.path}: kind: expected Reinstatement` };
  const late = now === null ? null : trustBar(file.path, trust, now);
  return late ?? signedBy(evidence, trust.roles.recoverers, parsed.document);
}

/**
 * What stands against lifting an accepted revocation, whatever it is of; null: nothing. Only
 * `certificateHold` says that it may be taken back (RFC 5280 §5.3.1); every other reason says that the
 * thing itself is not to be trusted any more, and the way on is a successor. Pure.
 */
export function liftBar(path: string, { id, reason }: Pick<RevocationDocument, 'id' | 'reason'>): Bar | null {
  return reason === 'certificateHold' ? null : { kind: 'refused', reason: 'NotASuspension', about: `${path}: revocation: ${id} says ${reason}` };
}
