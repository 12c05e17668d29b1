/** What can happen on the way: each says since when the branch cannot be read and why, and the next good answer goes on where it stopped. */
import { createHmac } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serve } from '@hono/node-server';
import { beforeAll, describe, expect, it } from 'vitest';
import { openGit } from '#src/adapters/git/index.ts';
import { type Reason, reasons } from '#src/domain/reasons.ts';
import { type Intake, takeIn } from '#src/engine/intake.ts';
import { openWebhook } from '#src/engine/webhook.ts';
import { openLog } from '#src/log.ts';
import { reasonOf } from '../adapters/git-parts.ts';
import { expectUnharmed, goodFiles, openServer, type Shown, shownOf } from './attack-zoo-parts.ts';
import { digestAt, release, serials, verdicts, withBench } from './intake-parts.ts';

/** On a machine that does ten other things. Milliseconds. */
const PATIENCE = 180_000;
/** What a beast answers where the host itself is to be asked. */
const PASS = Symbol('pass');

interface Beast {
  readonly beast: string;
  /** Answers in the host's place, or passes. */
  readonly answer: (response: ServerResponse, asked: 'refs' | 'tip' | 'pack', elsewhere: string) => unknown;
  /** It would outlive a poll of the usual length. */
  readonly isSlow?: true;
  readonly reason: Reason;
  readonly about: RegExp;
}

const band = (number: number, length: number): Buffer => {
  const packet = Buffer.alloc(length, 'x');
  packet.write(length.toString(16).padStart(4, '0'), 'latin1');
  packet[4] = number;
  return packet;
};

/** Writes the same for ever, as fast as it is read. */
function endless(response: ServerResponse, part: Buffer): void {
  const more = (): void => {
    while (!response.destroyed && response.write(part));
  };
  response.on('drain', more);
  more();
}

/** Answers a request for a pack; everything else is the host's. */
const atPack =
  (answer: (response: ServerResponse) => unknown): Beast['answer'] =>
  (response, asked) =>
    asked === 'pack' ? answer(response) : PASS;

const ADVERTISED = { 'content-type': 'application/x-git-upload-pack-advertisement' };

const BEASTS: readonly Beast[] = [
  {
    beast: 'a pack that comes a byte a second',
    answer: atPack((response) => {
      response.write(band(1, 100).subarray(0, 20));
      const timer = setInterval(() => response.write('x'), 1000);
      response.once('close', () => clearInterval(timer));
    }),
    reason: 'TooSlow',
    about: /not ended after \d+ s/,
    isSlow: true,
  },
  {
    beast: 'a pack without an end',
    answer: atPack((response) => endless(response, band(1, 65_000))),
    reason: 'LimitExceeded',
    about: /more than 67108864 bytes/,
  },
  {
    beast: 'progress without an end',
    answer: atPack((response) => endless(response, band(2, 65_000))),
    reason: 'LimitExceeded',
    about: /more than 67108864 bytes/,
  },
  {
    beast: 'marks without an end',
    answer: atPack((response) => endless(response, Buffer.from('0000'.repeat(16_000)))),
    reason: 'LimitExceeded',
    about: /67108864/,
  },
  {
    beast: 'refs without an end',
    answer: (response, asked) => {
      if (asked !== 'tip') return PASS;
      const line = `${'1'.repeat(40)} refs/heads/main-${'x'.repeat(200)}\n`;
      return endless(response, Buffer.from(`${(line.length + 4).toString(16).padStart(4, '0')}${line}`.repeat(200)));
    },
    reason: 'LimitExceeded',
    about: /67108864/,
  },
  {
    beast: 'a pack that breaks off',
    answer: atPack((response) => response.end(Buffer.concat([band(1, 200), band(1, 200).subarray(0, 50)]))),
    reason: 'UnexpectedAnswer',
    about: /cut off/,
  },
  {
    beast: 'a connection that breaks off',
    answer: atPack((response) => response.write(band(1, 200), () => response.destroy())),
    reason: 'Unreachable',
    about: /broke off/,
  },
  {
    beast: 'a pack that is none',
    answer: atPack((response) => response.end(Buffer.concat([band(1, 200), Buffer.from('0000')]))),
    reason: 'UnexpectedAnswer',
    about: /pack/,
  },
  { beast: 'what is not written in pkt-lines', answer: atPack((response) => response.end('<html>')), reason: 'UnexpectedAnswer', about: /pkt-lines/ },
  { beast: 'a host that gives up', answer: atPack((response) => response.end(band(3, 60))), reason: 'ServerError', about: /gave up: x+/ },
  {
    beast: 'a page for people',
    answer: (response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
    reason: 'UnexpectedAnswer',
    about: /text\/html/,
  },
  {
    beast: 'names that are not SHA-1',
    answer: (response) => response.writeHead(200, ADVERTISED).end('000eversion 2\n0019object-format=sha256\n0000'),
    reason: 'UnexpectedAnswer',
    about: /sha256/,
  },
  {
    beast: 'a redirect to another host',
    answer: (response, _, elsewhere) => response.writeHead(302, { location: `${elsewhere}/info/refs?service=git-upload-pack` }).end(),
    reason: 'RedirectRefused',
    about: /redirected to http:\/\/127\.0\.0\.1:\d+; only a GET/,
  },
  {
    beast: 'a redirect of the fetch',
    answer: atPack((response) => response.writeHead(307, { location: '/releases.git/git-upload-pack' }).end()),
    reason: 'RedirectRefused',
    about: /POST/,
  },
  {
    beast: 'a redirect in circles',
    answer: (response) => response.writeHead(301, { location: '/releases.git/info/refs' }).end(),
    reason: 'RedirectRefused',
    about: /more than 3/,
  },
  {
    beast: 'a redirect to nowhere',
    answer: (response) => response.writeHead(301, { location: 'http://[' }).end(),
    reason: 'RedirectRefused',
    about: /no URL/,
  },
];

describe('the way to the repository', () => {
  const seen = new Map<string, { readonly thrown: string; readonly shown: Shown; readonly after: Shown }>();
  let lured: readonly (string | undefined)[] = [];

  beforeAll(
    () =>
      withBench(async ({ pool, lab, intake, push }) => {
        await push(await goodFiles());
        await expectUnharmed(pool);
        let beast: Beast | null = null;
        const lure: (string | undefined)[] = [];
        const elsewhere = await openServer((request, response) => {
          lure.push(request.headers.authorization);
          response.end();
        });
        const front = await openServer(async (request, response, body) => {
          const asked = request.method === 'GET' ? 'refs' : body.includes('command=ls-refs') ? 'tip' : 'pack';
          if (beast !== null && beast.answer(response, asked, elsewhere.url) !== PASS) return;
          const headers = Object.entries(request.headers).flatMap(([name, value]): [string, string][] =>
            typeof value !== 'string' || ['host', 'connection', 'content-length'].includes(name) ? [] : [[name, value]],
          );
          const through = await fetch(new URL(request.url ?? '/', lab.url), { method: request.method ?? 'GET', headers, ...(body.length > 0 ? { body } : {}) });
          response.writeHead(through.status, { 'content-type': through.headers.get('content-type') ?? '' }).end(Buffer.from(await through.arrayBuffer()));
        });
        const folder = await mkdtemp(join(tmpdir(), 'keyturn-zoo-'));
        await writeFile(join(folder, 'password'), 'secret');
        const credentials = { username: 'keyturn', password: { file: join(folder, 'password') } };
        const git = openGit({ url: front.url, branch: 'main', credentials });
        const behind: Intake = { ...intake, git };
        // A poll has to come as far as the pack before its time is over, on a machine of any speed.
        const slowly = async (seconds: number): Promise<string> => {
          const hasty = openGit({ url: front.url, branch: 'main' }, { pollSeconds: seconds });
          const thrown = await reasonOf(takeIn({ ...intake, git: hasty }));
          await hasty.close();
          return thrown === 'Unreachable' && seconds < 60 ? slowly(seconds * 2) : thrown;
        };
        let previous = digestAt(await release(1, null), 'releases/w/1.yaml');
        for (const [index, one] of BEASTS.entries()) {
          const next = await release(index + 2, previous);
          previous = digestAt(next, `releases/w/${index + 2}.yaml`);
          await lab.commit(next, one.beast);
          beast = one;
          const thrown = one.isSlow === true ? await slowly(1) : await reasonOf(takeIn(behind));
          const shown = await shownOf(pool);
          beast = null;
          await takeIn(behind);
          seen.set(one.beast, { thrown, shown, after: await shownOf(pool) });
        }
        expect(await serials(pool)).toHaveLength(BEASTS.length + 1);
        lured = lure;
        await git.close();
        await front.close();
        await elsewhere.close();
        await rm(folder, { recursive: true, force: true });
      }),
    PATIENCE,
  );

  it.each(BEASTS)('$beast: $reason, since when, and no longer where it is gone', ({ beast, reason, about }) => {
    const { thrown, shown, after } = seen.get(beast) ?? {};
    expect(thrown).toBe(reason);
    const [poll] = shown?.json.polls ?? [];
    expect(poll).toMatchObject({ branch: 'main', reason, help: reasons[reason].help });
    expect(poll?.about).toMatch(about);
    expect(Date.parse(poll?.failingSince ?? '')).toBeGreaterThan(Date.parse(poll?.readAt ?? ''));
    expect(shown?.text).toContain(`branch main cannot be read since ${poll?.failingSince}: ${reason}: ${poll?.about}\n  ${reasons[reason].help}`);
    expect(after?.json.polls).toMatchObject([{ failingSince: null, reason: null }]);
    expect(after?.text).not.toContain('cannot be read');
  });

  it('nobody else is shown our credentials, or asked at all', () => {
    expect(lured).toEqual([]);
  });
});

describe('the webhook', () => {
  it('takes what is signed, once; the rest is shown by its reason, and the branch is polled all the same', () =>
    withBench(async ({ pool, lab, intake }) => {
      const folder = await mkdtemp(join(tmpdir(), 'keyturn-zoo-'));
      await writeFile(join(folder, 'secret'), 'shared\n');
      let hints = 0;
      const onHint = (): void => {
        hints += 1;
      };
      const app = openWebhook({ secret: { file: join(folder, 'secret') }, pool, onHint, log: openLog('silent') });
      const { promise: listening, resolve } = Promise.withResolvers<AddressInfo>();
      const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, resolve);
      const { port } = await listening;
      const commit = await lab.commit(await goodFiles(), 'good');
      const body = JSON.stringify({ ref: 'refs/heads/main', after: commit });
      const signed = (secret: string): Record<string, string> => ({
        'x-hub-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`,
      });
      const deliver = async (headers: Record<string, string>): Promise<number> =>
        (await fetch(`http://127.0.0.1:${port}/webhook`, { method: 'POST', headers, body })).status;
      expect([await deliver({}), await deliver(signed('guessed')), await deliver(signed('shared')), await deliver(signed('shared'))]).toEqual([
        401, 401, 202, 409,
      ]);
      expect(hints).toBe(1);
      const { json, text } = await shownOf(pool);
      expect(json.deliveries.map(({ reason, times, help }) => [reason, times, help]).sort()).toEqual(
        (['DeliveryForged', 'DeliveryReplayed', 'DeliveryUnsigned'] as const).map((reason) => [reason, 1, reasons[reason].help]),
      );
      for (const { reason, about, help, firstAt } of json.deliveries) {
        expect(text).toContain(`${reason}: ${about}`);
        expect(text).toContain(`1 times since ${firstAt}`);
        expect(text).toContain(help);
      }
      await takeIn(intake);
      await expectUnharmed(pool);
      expect(await verdicts(pool)).toMatchObject({ 'releases/w/1.yaml': 'accepted' });
      await new Promise((done) => server.close(done));
      await rm(folder, { recursive: true, force: true });
    }));
});
