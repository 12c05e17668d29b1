import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';

/** The house rules that a tool does not hold. Each violation is listed, so that one run shows them all. */
const ROOT = resolve(import.meta.dirname, '..');

interface Source {
  readonly path: string;
  readonly text: string;
}

function filesUnder(folder: string, pattern: RegExp): readonly Source[] {
  const found: Source[] = [];
  for (const name of readdirSync(join(ROOT, folder)).sort()) {
    const path = join(folder, name);
    if (statSync(join(ROOT, path)).isDirectory()) found.push(...filesUnder(path, pattern));
    else if (pattern.test(name)) found.push({ path, text: readFileSync(join(ROOT, path), 'utf8') });
  }
  return found;
}

const SOURCES = ['src', 'state', 'workflows'].flatMap((folder) => filesUnder(folder, /\.ts$/));
const TESTS = filesUnder('test', /\.ts$/);

const LEAVES = ['errors', 'secret', 'reference', 'digest', 'instant', 'log', 'metrics'];

/** The room that a file stands in. */
function roomOf(path: string): string {
  const [top, second, third] = path.split('/');
  if (top !== 'src') return top ?? '';
  if (second === 'adapters') return third === undefined || third.endsWith('.ts') ? 'adapters' : `adapters/${third}`;
  const name = second?.replace(/\.ts$/, '') ?? '';
  // The ports and our memory of what passed through them are one room.
  if (name === 'ledger') return 'world';
  return LEAVES.includes(name) ? 'leaf' : name;
}

/** Who may import whom, beside the leaves and themselves (the README's table). */
const MAY: Readonly<Record<string, readonly string[]>> = {
  leaf: [],
  domain: [],
  world: ['domain'],
  workflows: ['domain', 'world'],
  state: ['domain', 'world'],
  engine: ['domain', 'world', 'workflows', 'state'],
  envelope: [],
  config: ['adapters/*/config.ts'],
  proxy: ['domain', 'world', 'state'],
  dashboard: ['domain', 'world', 'state'],
  lab: ['envelope'],
  commands: ['*'],
  main: ['*'],
};

function allowed(room: string, file: string, other: string, otherFile: string, typeOnly: boolean): boolean {
  if (room === other || other === 'leaf') return true;
  if (room === 'leaf') return file === 'src/errors.ts' && otherFile === 'src/domain/reasons.ts' && typeOnly;
  if (room === 'config') return /^src\/adapters\/[^/]+\/config\.ts$/.test(otherFile);
  if (room.startsWith('adapters/')) return ['domain', 'world', ...(room === 'adapters/weights' ? ['envelope'] : [])].includes(other);
  const may = MAY[room] ?? [];
  return may.includes('*') || may.includes(other);
}

const IMPORT = /^\s*(?:import|export)\s+(type\s+)?[^;]*?from\s+'([^']+)'|import\('([^']+)'\)|^import\s+'([^']+)'/gms;

function importsOf(source: Source): readonly { specifier: string; file: string; typeOnly: boolean }[] {
  return [...source.text.matchAll(IMPORT)].flatMap((match) => {
    const specifier = match[2] ?? match[3] ?? match[4] ?? '';
    const typeOnly = match[1] !== undefined;
    if (specifier.startsWith('#')) return [{ specifier, file: specifier.slice(1), typeOnly }];
    if (specifier.startsWith('.')) return [{ specifier, file: relative(ROOT, resolve(ROOT, dirname(source.path), specifier)), typeOnly }];
    return [];
  });
}

describe('the house', () => {
  it('is imported only as the table allows', () => {
    const wrong = SOURCES.flatMap((source) =>
      importsOf(source)
        .filter(({ file, typeOnly }) => !allowed(roomOf(source.path), source.path, roomOf(file), file, typeOnly))
        .map(({ specifier }) => `${source.path} → ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  it('imports the lab only by its own words, and only when they are said', () => {
    const wrong = SOURCES.filter(({ path, text }) => roomOf(path) !== 'lab' && /from\s+'[^']*\/lab\//.test(text)).map(({ path }) => path);
    const dynamic = SOURCES.filter(({ path, text }) => roomOf(path) !== 'lab' && /import\('[^']*lab\//.test(text)).map(({ path }) => path);
    expect(wrong).toEqual([]);
    expect(dynamic.every((path) => path.startsWith('src/commands/lab'))).toBe(true);
  });

  it('crosses a room by its alias and stays inside by a relative path', () => {
    const wrong = SOURCES.flatMap((source) =>
      importsOf(source)
        .filter(({ specifier, file }) => specifier.startsWith('.') && source.path.split('/')[0] !== file.split('/')[0])
        .map(({ specifier }) => `${source.path} → ${specifier}`),
    );
    expect(wrong).toEqual([]);
  });

  it('has files of 300 lines at most', () => {
    const long = SOURCES.filter(({ text }) => text.split('\n').length > 301).map(({ path, text }) => `${path}: ${text.split('\n').length}`);
    expect(long).toEqual([]);
  });

  it('has functions of 60 lines at most', () => {
    expect(SOURCES.flatMap(longFunctions)).toEqual([]);
  });

  it('documents every export', () => {
    const bare = SOURCES.flatMap(({ path, text }) =>
      [...text.matchAll(/(^|\n)([^\n]*)\n(?:export (?:async )?(?:function|const|interface|type|class) (\w+))/g)]
        .filter((match) => !/\*\/\s*$|^\s*\/\*\*.*\*\/\s*$/.test(match[2] ?? '') && !/^export type \w+ = z\.infer/.test(match[0].split('\n').at(-1) ?? ''))
        .map((match) => `${path}: ${match[3]}`)
        .filter((name) => !/: \w+$/.test(name) || !isInferred(text, name.split(': ')[1] ?? '')),
    );
    expect(bare).toEqual([]);
  });

  it('says nothing that nobody will do, and silences no check', () => {
    const words = new RegExp(['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', '@ts-' + 'ignore', '@ts-' + 'expect-error', '\\.on' + 'ly\\('].join('|'));
    const wrong = [...SOURCES, ...TESTS].filter(({ text }) => words.test(text)).map(({ path }) => path);
    expect(wrong).toEqual([]);
  });

  it('names no machine', () => {
    const wrong = [...SOURCES, ...TESTS].filter(({ text }) => /\/(?:work|root|home)\/[a-z.]/.test(text)).map(({ path }) => path);
    expect(wrong).toEqual([]);
  });

  it('has no file called after nothing in particular', () => {
    const wrong = [...SOURCES, ...TESTS].filter(({ path }) => /(?:^|[-/])(?:util|utils|helper|helpers|manager|common|misc)(?:s|es)?[.-]/.test(path));
    expect(wrong.map(({ path }) => path)).toEqual([]);
  });
});

/** Types inferred from a schema are documented there. */
function isInferred(text: string, name: string): boolean {
  return new RegExp(`export type ${name} = z\\.infer`).test(text);
}

/** From a line that opens a function at the margin to the line that closes it there. */
function longFunctions({ path, text }: Source): readonly string[] {
  const lines = text.split('\n');
  return lines.flatMap((line, start) => {
    if (!/^(?:export )?(?:async )?function /.test(line)) return [];
    const length = lines.slice(start).indexOf('}') + 1;
    return length > 60 ? [`${path}:${start + 1}: ${length} lines`] : [];
  });
}
