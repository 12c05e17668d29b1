import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { exportReceipts } from '#state/receipts.ts';
import { testRelease } from '../world/release.ts';
import { tell, testReinstatement, testSuspension } from '../world/story.ts';
import { keyturn, SPAWNING_SECONDS } from './stand.ts';

const FORGED = 'an alarm\n  confirm-refused  2026-01-01T00:00:00.000Z  observed\u202e';
const DOUBT = { ...testSuspension({ kind: 'release', workload: 'chat', serial: 1 }, 'doubt'), why: FORGED, recovery: 'the recoverers' };

it(
  'an export alone tells who revoked and lifted what, and each refusal, each in a line of its own; one that was changed proves nothing of it',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'keyturn-verify-'));
    try {
      await tell({}, async ({ engine, pool, test }) => {
        await engine.accept(testRelease({ serial: 1 }));
        await engine.driveTo(1, 'confirm-serving');
        await engine.revoke(DOUBT);
        await engine.drive((looks) => looks.some((look) => look.kind === 'resting' && look.waitingFor === 'Held'));
        await engine.reinstate(testReinstatement(DOUBT), DOUBT);
        await engine.drive(async () => (await pool.query(`select 1 from runs where workflow = 'reinstate' and ended_at is not null`)).rowCount !== 0);
        const lines: string[] = [];
        await exportReceipts(pool, test.world.signer, 'test', async (line) => void lines.push(line));
        await writeFile(join(folder, 'export.jsonl'), lines.join(''));
        await writeFile(join(folder, 'public.pem'), test.world.signer.publicKeyPem);
      });
      const text = await readFile(join(folder, 'export.jsonl'), 'utf8');
      await writeFile(join(folder, 'changed.jsonl'), text.replace('the recoverers', 'the culprits!!'));
      const asked = (name: string, ...more: readonly string[]) => keyturn('verify', join(folder, name), '--public-key', join(folder, 'public.pem'), ...more);
      const [told, machine, plain, changed] = await Promise.all([
        asked('export.jsonl', '--revocations'),
        asked('export.jsonl', '--revocations', '--json'),
        asked('export.jsonl'),
        asked('changed.jsonl', '--revocations', '--json'),
      ]);
      expect([told.code, machine.code, plain.code, changed.code]).toEqual([0, 0, 0, 3]);
      const own = told.output.split('\n').filter((line) => line !== '');
      expect(own[1]).toMatch(
        /^revoked doubt by rex: certificateHold, an alarm confirm-refused 2026-01-01T00:00:00\.000Z observed\ufffd; recovery: the recoverers$/,
      );
      expect(own[2]).toBe('  {"kind":"release","serial":1,"workload":"chat"}');
      expect(own[3]).toMatch(/^ {2}refused by the policy of main from generation \d+$/);
      expect(own.filter((line) => /^ {2}confirm-refused\s/.test(line))).toHaveLength(1);
      expect(own.at(-1)).toMatch(/^ {2}lifted 20\S+Z by lift-doubt, signed by ada, bo: a false alarm$/);
      expect(own.find((line) => line.startsWith('  refuse-at-proxies'))).toMatch(/observed {2}Every proxy refuses it\.$/);
      expect(JSON.parse(machine.output)).toMatchObject({
        kind: 'verified',
        revocations: [{ said: { id: 'doubt', why: FORGED }, lifted: { said: { reinstatement: 'lift-doubt', approvedBy: ['ada', 'bo'] } } }],
      });
      expect(plain.output).not.toContain('revoked doubt');
      expect(JSON.parse(changed.output)).toMatchObject({ kind: 'broken', revocations: [] });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
  SPAWNING_SECONDS * 1000,
);
