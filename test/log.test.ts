import { expect, test } from 'vitest';
import { Fault } from '#src/errors.ts';
import { type LogLevel, openLog } from '#src/log.ts';
import { openMetrics } from '#src/metrics.ts';
import { Secret } from '#src/secret.ts';

function opened(level: LogLevel) {
  const lines: string[] = [];
  return { lines, log: openLog(level, { write: (line: string) => void lines.push(line) }) };
}

test('a line is one object of JSON: level, instant, details, a constant message', () => {
  const { lines, log } = opened('info');
  log.warn({ run: 'r-1', reason: 'Unreachable' }, 'an outside system failed');
  log.debug({}, 'not written');
  expect(lines).toHaveLength(1);
  const line = JSON.parse(lines[0] ?? '');
  expect(line).toMatchObject({ level: 'warn', run: 'r-1', reason: 'Unreachable', message: 'an outside system failed' });
  expect(line.at).toMatch(/^\d{4}-\d\d-\d\dT.*Z$/);
});

test('a secret is never in a line, as itself, under its name, or in a fault’s cause', () => {
  const { lines, log } = opened('debug');
  log.info({ pass: new Secret(Buffer.from('hunter2')), nested: { inner: new Secret(Buffer.from('hunter2')) } }, 'as itself');
  log.info({ password: 'hunter2', answer: { token: 'hunter2' } }, 'under its name');
  log.error({ error: new Fault('ServerError', 'kms', { cause: Object.assign(new Error('inner'), { request: 'hunter2' }) }) }, 'in a cause');
  expect(lines).toHaveLength(3);
  expect(lines.join('')).not.toContain('hunter2');
  expect(JSON.parse(lines[2] ?? '').error).toMatchObject({ name: 'Fault', reason: 'ServerError', cause: { message: 'inner' } });
});

test('a detail without end is cut, and a ring of causes ends', () => {
  const { lines, log } = opened('info');
  const ring = new Error('ring');
  ring.cause = ring;
  log.info({ answer: 'x'.repeat(1_000_000), error: ring }, 'long');
  expect(lines[0]?.length).toBeLessThan(100_000);
});

test('metrics print with their public names, and two registries never share a count', async () => {
  const [one, other] = [openMetrics(), openMetrics()];
  one.faults.inc({ reason: 'Unreachable', system: 'main' });
  one.runsWaiting.set({ workflow: 'adopt-revision', reason: 'PodsNotMoved' }, 3);
  one.stepSeconds.observe({ workflow: 'adopt-revision', step: 'create-key' }, 0.2);
  const { text, contentType } = await one.print();
  expect(contentType).toContain('text/plain');
  expect(text).toContain('keyturn_faults_total{reason="Unreachable",system="main"} 1');
  expect(text).toContain('keyturn_run_waiting{workflow="adopt-revision",reason="PodsNotMoved"} 3');
  expect(text).toContain('keyturn_step_seconds_bucket{le="0.5",workflow="adopt-revision",step="create-key"} 1');
  expect((await other.print()).text).not.toContain('reason="Unreachable"');
});
