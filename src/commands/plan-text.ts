/** A plan in words: plain for a terminal, Markdown for a pull request's check. What documents say is somebody else's text, and is told as such. */
import type { Forecast, ReinstatementForecast, ReleaseForecast, RevisionName, TakingForecast, TargetForecast, ValueChange } from '#src/domain/forecast.ts';
import { signerNames } from '#src/domain/signatures.ts';
import type { Previewed } from '#src/engine/preview.ts';
import type { Plan } from './plan.ts';
import { bytesText } from './release.ts';

/** A text of somebody else's, however long it is. */
const VALUE_SHOWN = 400;
/** Documents that were refused before, and entries that are not read. */
const OTHERS_SHOWN = 50;

/** Our words, and values in between. */
type Words = readonly (string | { readonly value: string })[];

function say(words: TemplateStringsArray, ...values: readonly (string | number)[]): Words {
  return words.flatMap((text, index) => (index < values.length ? [text, { value: String(values[index]) }] : [text]));
}

/** A line of a document: what it is about, and what is said. */
type Fact = readonly [string, Words];

interface Section {
  readonly heading: Words;
  readonly facts: readonly Fact[];
}

/** For a terminal. */
export function plainOf(plan: Plan): readonly string[] {
  const write = (words: Words): string => words.map((word) => visible(typeof word === 'string' ? word : word.value)).join('');
  const sections = sectionsOf(plan).map(({ heading, facts }) => {
    const width = Math.max(0, ...facts.map(([label]) => label.length));
    return ['', write(heading), ...facts.map(([label, words]) => `  ${label.padEnd(width)}  ${write(words)}`.trimEnd())];
  });
  return [write(titleOf(plan)), ...sections.flat(), '', write(summaryOf(plan))];
}

/** For a pull request. */
export function markdownOf(plan: Plan): readonly string[] {
  const write = (words: Words): string => words.map((word) => (typeof word === 'string' ? word : codeSpan(visible(word.value)))).join('');
  const sections = sectionsOf(plan).map(({ heading, facts }) => [
    '',
    `### ${write(heading)}`,
    '',
    ...facts.map(([label, words]) => listItem(label, write(words))),
  ]);
  return [`## ${write(summaryOf(plan))}`, '', write(titleOf(plan)), ...sections.flat()];
}

function listItem(label: string, text: string): string {
  return label === '' ? `  ${text}` : `- **${label}**: ${text}`;
}

/** CommonMark 6.1: a run of backticks longer than any inside; a line break would end the list. */
function codeSpan(text: string): string {
  const runs = [...text.matchAll(/`+/g)].map(([run]) => run.length);
  const fence = '`'.repeat(Math.max(0, ...runs) + 1);
  return text === '' ? '' : `${fence}${runs.length > 0 ? ` ${text} ` : text}${fence}`;
}

/** On one line, without anything that a terminal would act on. */
function visible(text: string): string {
  const shown = text.replace(/[\p{C}\u2028\u2029]/gu, '�');
  return shown.length > VALUE_SHOWN ? `${shown.slice(0, VALUE_SHOWN).toWellFormed()}…` : shown;
}

function titleOf({ source, installation, mode, at }: Plan): Words {
  const lab = mode === 'lab' ? 'LAB: ' : '';
  return source.commit === null
    ? [lab, ...say`the work tree ${source.name} against ${installation} at ${at}`]
    : [lab, ...say`${source.name} at ${source.commit.slice(0, 12)} against ${installation} at ${at}`];
}

function summaryOf({ documents, unread, refused }: Plan): Words {
  const told = [
    `${documents.length} ${documents.length === 1 ? 'document' : 'documents'} to judge`,
    ...(unread.length > 0 ? [`${unread.length} not read`] : []),
  ];
  return [`keyturn plan: ${refused ? 'NO: this would not go through as it is' : 'yes: nothing would be refused'} (${told.join(', ')})`];
}

function sectionsOf({ documents, refusedBefore, unread }: Plan): readonly Section[] {
  const others = <T>(heading: string, entries: readonly T[], fact: (entry: T) => readonly Fact[]): readonly Section[] =>
    entries.length === 0 ? [] : [{ heading: [`${heading} (${entries.length})`], facts: entries.slice(0, OTHERS_SHOWN).flatMap(fact) }];
  return [
    ...documents.map(sectionOf),
    ...others('Not read', unread, ({ path, reason, about, help }) => [
      ['entry', say`${path}: ${reason}: ${about}`],
      ['', [help]],
    ]),
    ...others('Refused before, and still there', refusedBefore, ({ path, reason, about, help }) => [
      ['document', say`${path}: ${reason ?? ''}: ${about ?? ''}`],
      ...(help === null ? [] : ([['', [help]]] as const)),
    ]),
  ];
}

function sectionOf(document: Previewed): Section {
  const { path, digest, forecast, approvedBy, signatures, onceSigned } = document;
  return {
    heading: [`${headingOf(document)} `, { value: path }],
    facts: [
      ['digest', say`${digest}`],
      ...(approvedBy.length === 0 ? [] : [['approved', say`by ${signerNames(approvedBy, signatures).join(', ')}`] as const]),
      ...verdictFacts('now', document),
      ...(onceSigned === null ? [] : verdictFacts('signed', onceSigned)),
      ...(forecast === null ? [] : forecastFacts(forecast)),
    ],
  };
}

function headingOf({ verdict, onceSigned, forecast }: Previewed): string {
  const last = onceSigned?.verdict ?? verdict;
  if (last === 'refused') return 'REFUSED';
  if (forecast !== null && forecast.stops.length > 0) return 'ACCEPTED, AND STOPPED';
  if (last === 'waiting') return 'WAITS';
  return onceSigned === null ? 'accepted' : 'accepted once it is signed';
}

function verdictFacts(label: string, { verdict, reason, about, help }: Pick<Previewed, 'verdict' | 'reason' | 'about' | 'help'>): readonly Fact[] {
  if (reason === null) return label === 'now' ? [] : [[label, say`${verdict}`]];
  const said: Fact = [label, say`${verdict}: ${reason}: ${about ?? ''}`];
  return help === null ? [said] : [said, ['', [help]]];
}

function forecastFacts(forecast: Forecast): readonly Fact[] {
  switch (forecast.kind) {
    case 'release':
      return releaseFacts(forecast);
    case 'revocation':
    case 'withdrawal':
      return takingFacts(forecast);
    case 'reinstatement':
      return reinstatementFacts(forecast);
    case 'platform':
    case 'baseline':
      return [...forecast.referenceValues.map(valueFact), ['rolls', ['nothing']]];
  }
}

function releaseFacts(forecast: ReleaseForecast): readonly Fact[] {
  const { artifact, guests, images, stops, held, supersedes, retires, keepPreviousSeconds } = forecast;
  return [
    ['key', keyWords(forecast)],
    ['weights', weightsWords(forecast)],
    ...(artifact.plaintextManifest === null ? [] : [['manifest', say`${artifact.plaintextManifest}`] as const]),
    ...Object.entries(images).map(([name, image]): Fact => ['image', say`${name} ${image}`]),
    ...guests.flatMap(({ name, tee, platform, runtimeClass, initData, referenceValues }): Fact[] => [
      [
        'guest',
        say`${name}: ${tee} under ${runtimeClass}${platform === null ? '' : `, platform ${platform}`}; init-data ${initData.digest} (${initData.file})`,
      ],
      ...Object.entries(referenceValues).map(([value, list]): Fact => ['', say`good: ${value} ${JSON.stringify(list)}`]),
    ]),
    ...forecast.referenceValues.map(valueFact),
    ...forecast.targets.map((target): Fact => ['target', targetWords(target, forecast)]),
    ...supersedes.map((name): Fact => ['supersedes', [...revisionWords(name), ', which is on its way']]),
    ...retires.map(
      (name): Fact => [
        'retires',
        [
          ...revisionWords(name),
          ...say` ${keepPreviousSeconds} s after this one serves; its key `,
          name.key === 'disabled' ? 'is disabled' : 'stays: a revision that stands uses it',
        ],
      ],
    ),
    ...(held === null
      ? []
      : ([
          ['held', say`${held.reason}: ${held.about}`],
          ['', [held.help]],
        ] as const)),
    ...stops.flatMap(({ gate, reason, about, help }): Fact[] => [
      ['stops', say`at ${gate}: ${reason}: ${about}`],
      ['', [help]],
    ]),
  ];
}

function keyWords({ outcome, key, paths, workload }: ReleaseForecast): Words {
  const places = paths.flatMap(({ kbs, path }) => [...say`; path ${path} at ${kbs}`]);
  if (outcome === 'amends') return say`that of ${key.from ?? workload} stays, and its path: settings change, and targets that are added`;
  if (key.kind === 'kept') return [...say`that of ${key.from ?? workload} stays (epoch ${key.epoch} in ${key.store})`, ...places];
  return [...say`a new one, epoch ${key.epoch}, in ${key.store}`, ...places];
}

function weightsWords({ key, movedBytes, artifact }: ReleaseForecast): Words {
  if (movedBytes === 0 && key.kind === 'kept') return ['nothing is moved'];
  const size = movedBytes === null ? 'an unknown number of bytes (they cannot be seen from here)' : bytesText(movedBytes);
  const source = key.from === null ? (artifact.address ?? 'nowhere') : `the ciphertext of ${key.from}`;
  return say`${size} read from ${source} and sealed into ${artifact.stores.join(', ')}`;
}

function targetWords({ name, rolls, pods, minimumAttested, windows, kbs, guest }: TargetForecast, { batch }: ReleaseForecast): Words {
  const place = say`${name} (guest ${guest}, KBS ${kbs}): `;
  if (!rolls) return [...place, 'stays as it is'];
  const count = pods === null ? say`at least ${minimumAttested} pods roll` : say`${pods} pods roll`;
  return [...place, ...count, ...say`, ${batch} at a time; `, ...windowWords(windows)];
}

function windowWords(windows: TargetForecast['windows']): Words {
  if (windows.kind === 'closed') return windows.opensAt === null ? ['its windows never open again'] : say`its window opens at ${windows.opensAt}`;
  return windows.until === null ? ['at any time'] : say`its window is open until ${windows.until}`;
}

function takingFacts({ touches, targets, denied, sharing, referenceValues, stillGivenBy, evict, destroy }: TakingForecast): readonly Fact[] {
  return [
    ...(touches.length === 0 ? [['touches', ['no revision that there is']] as const] : touches.map((one): Fact => ['touches', touchedWords(one)])),
    ...denied.devices.map((name): Fact => ['refuses', say`the device ${name}, at every KBS`]),
    ...denied.initData.map((digest): Fact => ['refuses', say`guests with init-data ${digest}, at every KBS`]),
    ...denied.paths.map((path): Fact => ['refuses', say`the path ${path}, at every KBS`]),
    ...sharing.map((name): Fact => ['attention', say`${name} has the same init-data: it cannot be told apart, and is refused with it`]),
    ...referenceValues.map(valueFact),
    ...targets.map(({ workload, before, after, successor }): Fact => ['target', nextWords(workload, before, after, successor)]),
    ...stillGivenBy.map(
      ({ workload, name, epoch }): Fact => [
        'attention',
        say`${name} of ${workload} gives the same bytes to the guests that it names: to refuse them too, revoke the key (workload ${workload}, epoch ${epoch})`,
      ],
    ),
    ...(evict ? [['evicts', [touches.length === 0 ? 'no pod: no revision is touched' : 'the pods that hold it']] as const] : []),
    ...(destroy ? [['destroys', ['the key, by schedule']] as const] : []),
  ];
}

function nextWords(workload: string, before: string | null, after: string | null, successor: string | null): Words {
  if (after !== null) return say`${workload} ${before === after ? 'stays on' : 'falls back to'} ${after}`;
  if (successor !== null) return say`${workload} goes on as ${successor}: the same release under its next key, re-encrypted; until then no pod of it starts`;
  return say`${workload} has no successor, and is held: nothing good is left to run`;
}

function touchedWords(touched: TakingForecast['touches'][number]): Words {
  const { keyId, pods } = touched;
  return [
    ...revisionWords(touched),
    ...(keyId === null ? [] : say`; its key is ${keyId}`),
    ...Object.entries(pods ?? {}).flatMap(
      ([target, names]) => say`; pods of ${target} that lose it at their next restart (${names.length}): ${names.join(', ')}`,
    ),
  ];
}

function reinstatementFacts({ revocation, frees, targets }: ReinstatementForecast): readonly Fact[] {
  return [
    ['lifts', say`${revocation}`],
    ...(frees.length === 0
      ? [['frees', ['no revision: what it took is retired, was never there, or is named by another revocation']] as const]
      : frees.map(
          (name): Fact => ['frees', [...revisionWords(name), ...say`: the same key at its path number ${name.pathNumber}; the old path stays refused`]],
        )),
    ...targets.map(
      ({ workload, before, after }): Fact => [
        'target',
        after === null
          ? say`${workload} stays held`
          : before === after
            ? say`${workload} stays on ${after}: what comes back is retired beside it`
            : say`${workload} goes to ${after}: its pods roll, no weights move`,
      ],
    ),
  ];
}

function revisionWords({ workload, name, state }: RevisionName): Words {
  return say`${name} of ${workload} (${state})`;
}

function valueFact({ kbs, name, added, removed }: ValueChange): Fact {
  const list = (values: ValueChange['added']): string => values.map((value) => JSON.stringify(value)).join(', ');
  const lost = removed.length === 0 ? [] : say`, no longer ${list(removed)}`;
  return ['measured', added.length === 0 ? [...say`${name} at ${kbs}`, ...lost] : [...say`${name} at ${kbs}: also ${list(added)}`, ...lost]];
}
