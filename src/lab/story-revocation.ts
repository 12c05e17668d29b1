import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type LabEvent, runCommand } from './children.ts';
import { imageOf, initDataText, WORKLOAD } from './documents.ts';
import { type Asker, openAsker } from './guest-kbs.ts';
import type { Setting } from './setting.ts';
import { hint, merge, propose, standing } from './story.ts';
import { failure } from './watch.ts';
import { accessOf, keyPathIn, podAddresses } from './workload.ts';

/** Longer than the story: the rotation to release 2 is still under way when its key is revoked. Seconds. */
const SOAK_SECONDS = 600;
/** For whatever follows; a loaded machine gets several times what it takes. Seconds. */
const PATIENCE_SECONDS = 120;
/** `keyturn revoke` writes and signs one file. Seconds. */
const REVOKE_SECONDS = 60;
/** Between two questions of one guest: what is measured is the answer. Milliseconds. */
const ASK_MILLISECONDS = 10;
/** The key that is revoked: epochs count per workload, and release 2 brings the second. */
const REVOKED_EPOCH = 2;
const REVOCATION_ID = 'leaked-key';
/** How a KBS says no by its policy, and the proxy in its place. */
const REFUSED = 'PolicyDeny';
/** Where the revocation begins and ends. */
const EDGES: readonly string[] = ['revocation-accepted', 'revocation-finished'];

/** What each receipt and event of the time line says: the words of the revocation's page (a test holds them equal). */
export const WORDS: Readonly<Record<string, string>> = {
  'revocation-accepted': 'It was accepted: from here on nothing grants it any more.',
  'refuse-at-proxies': 'Every proxy refuses it.',
  'publish-policy': 'The key brokers’ own policy refuses it, asked for and seen.',
  'delete-resources': 'The key’s bytes are gone from the brokers.',
  'publish-reference-values': 'What measurements are compared with was read back without it.',
  'touch-objects': 'A patch to it that is still on its way lands nowhere.',
  'confirm-refused': 'Asked once more, at brokers and proxies: refused.',
  'find-holders': 'Who may still hold it is known, and nobody joins them.',
  'evict-pods': 'No pod that held it is left, where that was asked for.',
  'disable-keys': 'The key store no longer decrypts with its key, unless others need it.',
  'revocation-finished': 'It is carried out: every refusal has its receipt.',
};

/** Where a guest asks. */
const PLACES = { proxy: 'the proxy', policy: 'the key broker itself, past the proxy' } as const;
type Where = keyof typeof PLACES;

/** What the story found, for its last line. */
export interface Told {
  /** From the webhook to the first refusal. Milliseconds. */
  readonly proxyRefusedMs: number;
  readonly policyRefusedMs: number;
  readonly evictedPods: number;
  /** The release that serves in the end. */
  readonly servingSerial: number;
}

/** What the story does with its events, beside those of the product. */
export interface Telling {
  readonly onEvent: (event: LabEvent) => void;
  readonly now: () => string;
}

/**
 * Release 1 serves, release 2 is on its way, its rotation still open, when its key is found in a log: one revoker signs one file.
 * Two attested guests ask for that key all the time, one through the proxy and one past it; each is timed from the
 * webhook to its first refusal. The workload falls back to release 1, whose pods take the place of those that are evicted.
 */
export async function tellRevocation(setting: Setting, signal: AbortSignal, telling: Telling): Promise<Told> {
  const first = await propose(setting, 1, null);
  const { ended } = await merge(setting, first, signal);
  const [second, files] = await Promise.all([propose(setting, 2, first.digest, SOAK_SECONDS), signRevocation(setting), ended]);
  // The end of this rotation never comes: nobody waits for it any longer than for the story.
  const told = new AbortController();
  await using _ = { [Symbol.asyncDispose]: async () => told.abort(new Error('the story is told')) };
  await onItsWay(setting, signal, async () => void (await merge(setting, second, AbortSignal.any([signal, told.signal]))));
  await using guests = await openGuests(setting, signal);
  const after = followed(setting, signal);
  const asked = guests.untilRefused((where, milliseconds) => {
    const said = { where: PLACES[where], reason: REFUSED, milliseconds };
    telling.onEvent({ event: 'guest-refused', at: telling.now(), workload: WORKLOAD, ...said });
  });
  await setting.farSides.git.commit(files, 'Revoke the key of release 2');
  guests.begin();
  const hintedAt = Date.now();
  await hint(setting);
  const [proxyRefusedMs, policyRefusedMs] = await asked;
  const { heard, evictedPods, servingSerial } = await after;
  telling.onEvent({ event: 'time-line', at: telling.now(), workload: WORKLOAD, entries: timeLine(heard, hintedAt, { proxyRefusedMs, policyRefusedMs }) });
  return { proxyRefusedMs, policyRefusedMs, evictedPods, servingSerial };
}

/** A line of the story's end: so long after the webhook, and how that is known. */
interface Entry {
  readonly milliseconds: number;
  /** An event, or the step of a receipt; and what it says. */
  readonly what: string;
  readonly said: string;
  readonly proof: string;
}

/** What happened since the webhook, by the guests' own watches and the product's receipts (whose instants are the database's, on this machine). */
function timeLine(heard: readonly LabEvent[], hintedAt: number, refused: Pick<Told, 'proxyRefusedMs' | 'policyRefusedMs'>): readonly Entry[] {
  const said = heard.map(({ at, event, step, proof }): Entry => {
    const name = event === 'receipt' ? String(step) : event;
    return { milliseconds: Date.parse(at) - hintedAt, what: name, said: WORDS[name] ?? '', proof: event === 'receipt' ? String(proof) : '' };
  });
  const seen = [
    { milliseconds: refused.proxyRefusedMs, what: 'guest-refused', said: 'A guest is refused at the proxy.', proof: 'asked' },
    { milliseconds: refused.policyRefusedMs, what: 'guest-refused', said: 'A guest is refused by the policy.', proof: 'asked' },
  ];
  return [...said, ...seen].sort((a, b) => a.milliseconds - b.milliseconds);
}

/** Has one revoker write and sign it with `keyturn revoke`; what its merge brings. */
async function signRevocation({ keyturn, checkout, approvers }: Setting): Promise<Record<string, Buffer>> {
  const [revoker] = approvers;
  if (revoker === undefined) throw failure('NotFound', 'the lab has no revoker');
  await mkdir(join(checkout, 'revocations'), { recursive: true });
  const subject = ['--workload', WORKLOAD, '--epoch', String(REVOKED_EPOCH), '--reason', 'keyCompromise', '--why', 'the data key was found in a log'];
  const words = ['revoke', ...subject, '--evict', '--id', REVOCATION_ID, '--tree', checkout, '--sign-key', revoker.keyFile, '--sign-as', revoker.id, '--json'];
  const { code, output, errors } = await runCommand(keyturn, words, REVOKE_SECONDS);
  if (code !== 0) throw failure('ServerError', `keyturn revoke ended with ${code}: ${errors.trim()}`);
  const { files } = JSON.parse(output) as { readonly files: readonly string[] };
  return Object.fromEntries(await Promise.all(files.map(async (path) => [path, await readFile(join(checkout, path))] as const)));
}

/** Resolves when every pod of release 2 runs under its key, and its rotation still waits. */
async function onItsWay(setting: Setting, signal: AbortSignal, begin: () => Promise<void>): Promise<void> {
  const soaking = next(setting, signal, ({ event, waitingFor }) => event === 'waiting' && waitingFor === 'Soaking');
  await begin();
  await soaking;
}

/** The next such event. Rejects after a deadline, with where everything stands. */
function next(setting: Setting, signal: AbortSignal, wanted: (event: LabEvent) => boolean): Promise<LabEvent> {
  const event = setting.watch.next(wanted, PATIENCE_SECONDS, signal).catch(async (thrown: unknown) => {
    if (!(thrown instanceof Error) || thrown.name !== 'DeadlinePassed') throw thrown;
    throw failure('DeadlinePassed', `${thrown.message}; status: ${await standing(setting)}`);
  });
  // It may fail while what causes it is still being done; whoever awaits it hears of that all the same.
  event.catch(() => undefined);
  return event;
}

/** Hears what the revocation brings about, from before it is pushed until it is carried out and the workload serves again. */
async function followed(setting: Setting, signal: AbortSignal): Promise<Pick<Told, 'evictedPods' | 'servingSerial'> & { readonly heard: readonly LabEvent[] }> {
  const heard: LabEvent[] = [];
  const isOwn = ({ event, workflow, id }: LabEvent): boolean =>
    (event === 'receipt' && workflow === 'revoke') || (EDGES.includes(event) && id === REVOCATION_ID);
  const carriedOut = next(setting, signal, (event) => {
    if (isOwn(event)) heard.push(event);
    return event.event === 'revocation-finished' && event.id === REVOCATION_ID;
  });
  const serving = next(setting, signal, ({ event, step, workflow }) => event === 'receipt' && workflow === 'adopt-revision' && step === 'confirm-serving');
  const [back] = await Promise.all([serving, carriedOut]);
  const holders = heard.find(({ step }) => step === 'find-holders');
  return { heard, evictedPods: podsIn(holders?.facts), servingSerial: Number(back.serial) };
}

/** The pods in the facts of find-holders. */
function podsIn(facts: unknown): number {
  const holders = typeof facts === 'object' && facts !== null && 'holders' in facts ? facts.holders : null;
  return Object.values(holders ?? {}).reduce<number>((sum, pods) => sum + (Array.isArray(pods) ? pods.length : 0), 0);
}

/** Two attested guests that ask. */
interface Guests extends AsyncDisposable {
  /** From here the time is measured. */
  readonly begin: () => void;
  /** Asks until each is refused, and says when. Milliseconds of the proxy, and of the policy. */
  readonly untilRefused: (onRefused: (where: Where, milliseconds: number) => void) => Promise<readonly [number, number]>;
}

/** Opens both, each in a pod of release 2 (a guest of no pod would be somebody who holds the old key, and keeps it from being retired), and has each get the key that will be revoked. */
async function openGuests(setting: Setting, signal: AbortSignal): Promise<Guests> {
  const access = accessOf(setting.farSides.kubeconfig);
  const [path, [one, other]] = await Promise.all([keyPathIn(access), podAddresses(access)]);
  if (one === undefined || other === undefined) throw failure('NotFound', 'release 2 has less than two pods');
  const initData = initDataText({ kbsUrl: setting.publicUrl, image: imageOf(2) });
  const order = { kbsCertificate: null, path, svn: '2', initData, pauseSeconds: 1, signal, log: () => undefined };
  await using stack = new AsyncDisposableStack();
  const open = async (where: Where, kbsUrl: string, address: string): Promise<Asker> => {
    const asker = await openAsker({ ...order, kbsUrl, address });
    stack.defer(asker.close);
    const answer = await asker.ask();
    if (answer !== 'released') throw failure('ServerError', `a guest of release 2 got no key from ${PLACES[where]}: ${answer}`);
    return asker;
  };
  const askers = { proxy: await open('proxy', setting.publicUrl, one), policy: await open('policy', setting.farSides.kbsUrl, other) };
  // A poll may see the commit before anybody hints.
  let beganAt = Number.POSITIVE_INFINITY;
  const until = async (where: Where, onRefused: (where: Where, milliseconds: number) => void): Promise<number> => {
    const deadline = performance.now() + PATIENCE_SECONDS * 1000;
    while ((await askers[where].ask()) !== REFUSED) {
      if (performance.now() > deadline) throw failure('DeadlinePassed', `${PLACES[where]} releases the revoked key: ${await standing(setting)}`);
      await pause(ASK_MILLISECONDS, undefined, { signal });
    }
    const milliseconds = Math.max(0, Math.round(performance.now() - beganAt));
    onRefused(where, milliseconds);
    return milliseconds;
  };
  const standingStack = stack.move();
  return {
    begin: () => {
      beganAt = performance.now();
    },
    untilRefused: (onRefused) => {
      const both = Promise.all([until('proxy', onRefused), until('policy', onRefused)]);
      both.catch(() => undefined);
      return both;
    },
    [Symbol.asyncDispose]: () => standingStack.disposeAsync(),
  };
}
