/**
 * Random stories against the protocol, for as long as one likes: `node test/properties/run.ts --runs 10000 --seed 1`.
 * Prints how far it is; ends with 1 at the first violation, whose shortest story, seed and path it prints.
 * `--rule-off R15` switches that rule off in the test's own copy of the world and has to find a violation;
 * `--all-rules` does so for every rule, and prints the table of `test/README.md`.
 */
import { parseArgs } from 'node:util';
import { stories, storiesNear } from './actions.ts';
import { FAITHFUL } from './copy.ts';
import { openStoryDatabase } from './database.ts';
import { type Found, search } from './property.ts';
import { RULES, type Rule } from './rules.ts';

/** Stories between two lines of progress. Each batch has a seed of its own. */
const BATCH = 20;
/** Stories near a rule's script until its violation has to be found. */
const RULE_RUNS = 40;
/** The longest that the story which was found is made shorter. How many are told until one is found rests on no clock. */
const SHORTEN_SECONDS = 20;

const { values: asked } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000' },
    seed: { type: 'string' },
    path: { type: 'string' },
    'rule-off': { type: 'string' },
    'all-rules': { type: 'boolean', default: false },
  },
});

const say = (text: string): void => void process.stdout.write(`${text}\n`);

function sayFound({ violation }: Found): void {
  if (violation === null) return;
  say(`  ${violation.what}`);
  say(`  ${violation.story.join(' > ')}`);
  say(`  --seed ${violation.seed} --path ${violation.path} (${violation.shrinks} times shortened)`);
}

const seed = Number(asked.seed ?? Math.floor(Math.random() * 2 ** 31));
const runs = Number(asked.runs);
const { pool, close } = await openStoryDatabase();

/** Returns whether nothing was found. */
async function searchAll(): Promise<boolean> {
  const began = performance.now();
  for (let done = 0; done < runs; ) {
    const found = await search(pool, FAITHFUL, stories, { runs: Math.min(BATCH, runs - done), seed: seed + done });
    done += found.runs;
    const seconds = (performance.now() - began) / 1000;
    say(`${done} stories from seed ${seed}: ${found.violation === null ? 'nothing found' : 'a violation'}; ${(seconds / done).toFixed(2)} s each`);
    sayFound(found);
    if (found.violation !== null) return false;
  }
  return true;
}

/** Returns whether a violation was found for each. */
async function searchWithout(rules: readonly Rule[]): Promise<boolean> {
  let missed = 0;
  for (const rule of rules) {
    const found = await search(pool, rule.off, storiesNear(rule.script), { runs: RULE_RUNS, seed, shortenSeconds: SHORTEN_SECONDS });
    if (found.violation === null) missed += 1;
    const { violation } = found;
    say(
      `| ${rule.id} | ${rule.says} | ${violation === null ? `nothing in ${found.runs}` : found.runs} | ${violation?.story.join(' → ')} | ${violation?.what} |`,
    );
  }
  return missed === 0;
}

try {
  const rules = RULES.filter(({ id }) => asked['all-rules'] || id === asked['rule-off']);
  const { path } = asked;
  if (path !== undefined) {
    const [rule] = rules;
    sayFound(await search(pool, rule?.off ?? FAITHFUL, rule === undefined ? stories : storiesNear(rule.script), { runs, seed, path }));
  } else if (!(rules.length === 0 ? await searchAll() : await searchWithout(rules))) process.exitCode = 1;
} finally {
  await close();
}
