import { canonicalJson, type Json } from '#src/domain/json.ts';
import { GENERATION_NAME } from '#src/domain/want.ts';
import { type Effect, type Look, type NotYet, notYet, type Seen, seen } from '../step.ts';

/** What every KBS of the run's move compares measurements with: the union over all workloads, read back name by name. */
export const publishReferenceValues: Effect<unknown> = { kind: 'effect', name: 'publish-reference-values', observe, act };

async function observe(look: Look<unknown>): Promise<Seen | NotYet> {
  const found: Record<string, Json> = {};
  for (const kbs of Object.keys(look.run.generations).sort()) {
    const difference = await differenceIn(look, kbs);
    if (difference === null) {
      found[kbs] = { generation: look.run.generations[kbs] ?? 0 };
      continue;
    }
    const foreign = await foreignIn(look, kbs);
    return foreign === null ? notYet('ReferenceValueMissing', `${kbs} ${difference}`) : notYet('ForeignReferenceValue', `${kbs} ${foreign}`);
  }
  return seen({ brokers: found });
}

async function act(look: Look<unknown>): Promise<void> {
  for (const kbs of Object.keys(look.run.generations).sort()) {
    if ((await differenceIn(look, kbs)) === null || (await foreignIn(look, kbs)) !== null) continue;
    await look.world.broker(kbs).publishReferenceValues(look.ledger.want(look.run, kbs, 'referenceValue'));
  }
}

/** The first name whose value is not what the KBS should hold; null: all are. */
async function differenceIn(look: Look<unknown>, kbs: string): Promise<string | null> {
  const want = await look.ledger.wanted(kbs);
  const broker = look.world.broker(kbs);
  for (const [name, value] of Object.entries(want.referenceValues)) {
    if (!isThere(name, value, await broker.referenceValue(name))) return name;
  }
  return null;
}

/** An emptied name and one that was never sent say the same; a generation that rose while we looked is a later want of ours. */
function isThere(name: string, wanted: Json, found: Json | null): boolean {
  if (found === null) return Array.isArray(wanted) && wanted.length === 0;
  if (canonicalJson(found) === canonicalJson(wanted)) return true;
  const theirs = generationOf(found);
  const ours = generationOf(wanted);
  return name === GENERATION_NAME && theirs !== null && ours !== null && theirs.installation === ours.installation && theirs.generation > ours.generation;
}

/**
 * Before anything of ours was ever acknowledged there: a name that we would send and that holds what
 * neither a release nor the baseline names. Somebody relies on it and would lose it. Where our own
 * generation is there, a write of ours landed without an answer: what it brought was looked at before
 * it was sent, and is ours even where its release was revoked since.
 */
async function foreignIn(look: Look<unknown>, kbs: string): Promise<string | null> {
  const sends = await look.ledger.sends(kbs, 'referenceValue');
  if (sends.some((sent) => sent.answer !== null && sent.answer.type === null)) return null;
  const want = await look.ledger.wanted(kbs);
  const broker = look.world.broker(kbs);
  if (sends.length > 0 && isOurs(want.referenceValues[GENERATION_NAME] ?? null, await broker.referenceValue(GENERATION_NAME))) return null;
  for (const [name, value] of Object.entries(want.referenceValues)) {
    const found = await broker.referenceValue(name);
    if (found !== null && !isCovered(name, value, found)) return name;
  }
  return null;
}

/** A higher number than ours was written before our database was restored: by nobody that we know of. */
function isOurs(wanted: Json, found: Json | null): boolean {
  const ours = generationOf(wanted);
  const theirs = generationOf(found);
  return ours !== null && theirs !== null && theirs.installation === ours.installation && theirs.generation <= ours.generation;
}

function isCovered(name: string, wanted: Json, found: Json): boolean {
  const ours = generationOf(wanted);
  // Our own first write may have landed without an answer, and the number risen since.
  if (name === GENERATION_NAME && ours !== null) return generationOf(found)?.installation === ours.installation;
  if (!Array.isArray(wanted)) return canonicalJson(found) === canonicalJson(wanted);
  const covered = new Set(wanted.map((value: Json) => canonicalJson(value)));
  return (Array.isArray(found) ? found : [found]).every((value: Json) => covered.has(canonicalJson(value)));
}

function generationOf(value: Json | null): { readonly installation: string; readonly generation: number } | null {
  if (typeof value !== 'object' || value === null || !('installation' in value) || !('generation' in value)) return null;
  const { installation, generation } = value;
  return typeof installation === 'string' && typeof generation === 'number' ? { installation, generation } : null;
}
