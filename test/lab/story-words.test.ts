import { expect, it } from 'vitest';
import { momentOf, sentenceOf } from '#src/dashboard/sentences.ts';
import { WORDS } from '#src/lab/story-revocation.ts';
import { emergencies } from '#workflows/index.ts';
import { revoke } from '#workflows/revoke.ts';

it('the story’s time line and the page of a revocation say the same of every step', () => {
  for (const { name } of revoke.steps) expect([name, WORDS[name]]).toEqual([name, sentenceOf('revoke', name)]);
  expect(WORDS['revocation-accepted']).toBe(momentOf('accepted'));
});

it('no step of a revocation or a reinstatement is without a sentence of its own', () => {
  const sentences = emergencies.flatMap(({ name, steps }) => steps.map((step) => sentenceOf(name, step.name)));
  expect(sentences.filter((sentence) => sentence === null)).toEqual([]);
  expect(new Set(sentences).size).toBe(sentences.length);
});
