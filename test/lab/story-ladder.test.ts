import { expect, test } from 'vitest';
import { openLadder } from '#src/lab/ladder.ts';

const at = '2026-11-23T10:00:02.500Z';
const startedAt = Date.parse('2026-11-23T10:00:00.000Z');
const run = 'r-00000000000000aa';
const open = () => openLadder({ startedAt, colour: false });

test('every line says LAB, and when since the start', () => {
  const line = open()({ event: 'rotation-finished', at, run, workload: 'chat', serial: 2, retired: [1] });
  expect(line).toMatch(/^LAB +2\.5 +chat\/2 /);
});

test('a gate is told when its answer changes, and only then', () => {
  const ladder = open();
  const yes = { event: 'gate', at, run, gate: 'revision-is-target', verdict: 'yes' };
  const no = { event: 'gate', at, run, gate: 'revision-is-target', verdict: 'no', reason: 'Superseded', about: 'chat/2' };
  expect(ladder(yes)).toContain('revision-is-target');
  expect(ladder(yes)).toBeNull();
  expect(ladder(no)).toContain('Superseded: chat/2');
  expect(ladder(yes)).not.toBeNull();
});

test('the same wait is told once, and again after something else happened', () => {
  const ladder = open();
  const waiting = { event: 'waiting', at, run, step: 'move-pods', waitingFor: 'PodsNotMoved', about: 'lab/inference/chat' };
  expect(ladder(waiting)).toContain('PodsNotMoved: lab/inference/chat');
  expect(ladder(waiting)).toBeNull();
  expect(ladder({ event: 'receipt', at, run, step: 'patch-template', facts: {}, proof: 'observed' })).toContain('observed');
  expect(ladder(waiting)).not.toBeNull();
});

test('a run is named by its workload and serial once an event has told them', () => {
  const ladder = open();
  ladder({
    event: 'receipt',
    at,
    run,
    workload: 'chat',
    workflow: 'adopt-revision',
    serial: 2,
    step: 'create-key',
    facts: { keyId: 'k-1' },
    proof: 'observed',
  });
  const waiting = {
    event: 'waiting',
    at,
    run,
    workload: 'chat',
    workflow: 'adopt-revision',
    step: 'encrypt-weights',
    waitingFor: 'CiphertextMissing',
    about: 'models',
  };
  expect(ladder(waiting)).toContain('chat/2 adopt');
});

test('words of others cannot move the cursor of a terminal', () => {
  const line = open()({ event: 'refused', at, path: 'releases/chat/1.yaml', reason: 'Malformed', about: '\u001b[2J\u0007gone\nLAB all is well' });
  expect(line).not.toMatch(/\p{Cc}/u);
});

test('the days that the clock is moved on are told, and not counted', () => {
  const ladder = open();
  const later = '2026-12-23T10:00:04.000Z';
  expect(ladder({ event: 'clock-moved', at: '2026-12-23T10:00:03.000Z', days: 30 })).toMatch(/^LAB +3\.0 .*30 days/);
  expect(ladder({ event: 'rotation-due', at: later, run, workload: 'chat', serial: 2, epoch: 2, dueAt: later })).toMatch(/^LAB +4\.0 .*epoch 2/);
  expect(ladder({ event: 'reopened', at, run, workload: 'chat', serial: 2 }), 'said before, heard after').toMatch(/^LAB +2\.5 /);
});

test('an event of no interest makes no line', () => {
  expect(open()({ event: 'platform-accepted', at, id: 'hgx' })).toBeNull();
});

test('the time line of a revocation says each moment whole: when, what, how it is known, in words', () => {
  const said = 'The key store no longer decrypts with its key, unless others need it.';
  const entries = [
    { milliseconds: 12, what: 'guest-refused', said: 'A guest is refused at the proxy.', proof: 'asked' },
    { milliseconds: 2062, what: 'disable-keys', said, proof: 'accepted' },
  ];
  expect(
    open()({ event: 'time-line', at, workload: 'chat', entries })
      ?.split('\n')
      .map((line) => line.replace(/ {2,}/g, '  ')),
  ).toEqual([
    'LAB from the webhook of the revocation:',
    'LAB  12 ms  guest-refused  asked  A guest is refused at the proxy.',
    `LAB  2062 ms  disable-keys  accepted  ${said}`,
  ]);
});
