import type { TimeLineEntry } from '#state/time-line.ts';
import { code, html, type Markup, words } from './markup.ts';
import { table } from './page.ts';
import { momentOf, sentenceOf } from './sentences.ts';
import { moment } from './time.ts';

/** Lines of what one receipt saw. */
const SAW_SHOWN = 12;
/** Moments: a revocation has a dozen, and as many more for each time that it was lifted. */
const MOMENTS_SHOWN = 60;

/** From the webhook to each refusal: what, when, how long after, how it is known. */
export function timeLineSection(entries: readonly TimeLineEntry[], hinted: boolean, at: TimeLineEntry['at']): Markup {
  const shown = entries.slice(0, MOMENTS_SHOWN);
  const after = hinted ? 'Since the webhook' : 'Since it was seen';
  const rows = shown.map((entry) => [
    whatOf(entry),
    moment(entry.at, at),
    entry.milliseconds < 0 ? 'before' : `${entry.milliseconds} ms`,
    proofOf(entry),
    receiptOf(entry),
  ]);
  return html`<section aria-labelledby="time-line"><h2 id="time-line">Time line</h2>
${table('From the commit to each refusal, on the database’s clock', ['What', 'At', after, 'Known by', 'Receipt'], rows)}
${entries.length === shown.length ? null : html`<p class="more">… and ${entries.length - shown.length} more, in keyturn receipts export.</p>`}</section>`;
}

function whatOf({ event, receipt }: TimeLineEntry): Markup {
  if (receipt === null) return html`${momentOf(event)}`;
  const { workflow, step, saw } = receipt;
  const sentence = sentenceOf(workflow, step) ?? momentOf(step);
  const lines = saw.slice(0, SAW_SHOWN).map((line) => html`<br><span class="small">${words(line, 300)}</span>`);
  return html`${sentence === null ? null : html`${sentence} `}<span class="small">${code(step, 80)}</span>${lines}${saw.length > lines.length ? html`<br><span class="small">… and ${saw.length - lines.length} more</span>` : null}`;
}

function proofOf({ event, receipt }: TimeLineEntry): Markup {
  if (receipt === null) return html`${event === 'hinted' || event === 'signature-hinted' ? 'its delivery' : 'our row'}`;
  if (receipt.proof !== 'accepted') return html`<span class="badge good">observed</span>`;
  return html`<span class="badge waits">accepted</span> <span class="small">nothing of it can be read back</span>`;
}

function receiptOf({ receipt }: TimeLineEntry): Markup | null {
  if (receipt === null) return null;
  const { run, number, seq, digest } = receipt;
  return html`${seq === null ? 'not numbered yet' : `number ${seq} of the log`}<br><span class="small">${code(`${run}/${number}`)} ${code(digest)}</span>`;
}
