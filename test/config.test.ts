import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { type Config, configWarnings, loadConfig, parseConfig } from '#src/config.ts';
import { isFault } from '#src/errors.ts';

const FILE = new URL('vectors/config/keyturn.yaml', import.meta.url).pathname;
const EXAMPLE = await readFile(FILE, 'utf8');
const ENVIRONMENT = { DATABASE_URL: 'postgresql://127.0.0.1/keyturn' };

/** The example with these texts replaced: `line field` of every mistake that is found, in order; none: it is good. */
function mistakesIn(changes: Readonly<Record<string, string>>, environment: Readonly<Record<string, string>> = ENVIRONMENT): readonly string[] {
  let text = EXAMPLE;
  for (const [from, to] of Object.entries(changes)) {
    expect(text).toContain(from);
    text = text.replace(from, to);
  }
  try {
    parseConfig('k.yaml', text, environment);
    return [];
  } catch (thrown) {
    if (!isFault(thrown) || thrown.reason !== 'Malformed') throw thrown;
    return thrown.message
      .split('\n')
      .map((line) => /^k\.yaml(?::(?<at>\d+))?: (?<field>[^:]+): ./.exec(line))
      .map((found) => `${found?.groups?.at ?? '-'} ${found?.groups?.field ?? ''}`);
  }
}

test('the example is accepted whole, and what it leaves out has its default', async () => {
  const config = await loadConfig(FILE, ENVIRONMENT);
  expect(config.kbs.main).toMatchObject({ tokenSeconds: 10, leewaySeconds: 60, handlingBoundSeconds: { policy: 40, resource: 40, referenceValue: 600 } });
  const without = EXAMPLE.replace(/^serve:[\s\S]*?(?=^proxy:)/m, '')
    .replace(/^ {2}(?:denyListStaleSeconds|proxyProtocol|listen): .*\n/gm, '')
    .replace(/^ {2}poolSize.*\n/m, '');
  const { serve, proxy, database }: Config = parseConfig('k.yaml', without, ENVIRONMENT);
  expect(serve).toEqual({ webhook: { listen: '0.0.0.0:8080' }, dashboard: { listen: '127.0.0.1:8081' }, metrics: { listen: '0.0.0.0:9090' } });
  expect(proxy).toMatchObject({ listen: '0.0.0.0:8443', denyListStaleSeconds: 300, proxyProtocol: { from: [] } });
  expect(database.poolSize).toBe(10);
  expect(configWarnings(config)).toHaveLength(1);
});

test('several mistakes are told at once, each with its line and field', () => {
  const mistakes = mistakesIn({
    'mode: production': 'mode: prod',
    'storage: postgres': 'storage: local-json',
    'pollSeconds: 30': 'pollSecond: 30',
    'installation: eu-prod-1': '',
    'listen: 0.0.0.0:8443': 'listen: kbs:8443',
  });
  expect(mistakes.map((mistake) => mistake.split(' ')[1])).toEqual(['mode', 'installation', 'repository.pollSecond', 'kbs.main.storage', 'proxy.listen']);
  const lineOf = (text: string): string => String(EXAMPLE.split('\n').findIndex((line) => line.includes(text)) + 1);
  expect(mistakes[0]).toBe(`${lineOf('mode: production')} mode`);
  expect(mistakes[3]).toBe(`${lineOf('storage: postgres')} kbs.main.storage`);
});

test.each([
  ['a setting that nobody knows', { 'publicUrl: https': 'publicURL: https' }, ['kbs.main.publicUrl', 'kbs.main.publicURL']],
  ['a value where a secret’s place belongs', { '{ env: DATABASE_URL }': 'postgresql://u:p@h/d' }, ['database.url']],
  [
    'a window without cron’s five fields',
    { 'windows: []': 'windows: [{ cron: "0 22 * *", minutes: 240, timeZone: UTC }]' },
    ['clusters.gpu-east.windows.0.cron'],
  ],
  ['a window that never opens', { 'windows: []': 'windows: [{ cron: "0 22 30 2 *", minutes: 240, timeZone: UTC }]' }, ['clusters.gpu-east.windows.0.cron']],
  ['a window of nowhere', { 'windows: []': 'windows: [{ cron: "0 22 * * *", minutes: 240, timeZone: Berlin }]' }, ['clusters.gpu-east.windows.0.timeZone']],
  ['a window of no time', { 'windows: []': 'windows: [{ cron: "0 22 * * *", minutes: 0, timeZone: UTC }]' }, ['clusters.gpu-east.windows.0.minutes']],
  ['a port that is none', { '0.0.0.0:8080': '0.0.0.0:99999' }, ['serve.webhook.listen']],
  ['two listeners at one address', { '0.0.0.0:9090': '127.0.0.1:8081' }, ['serve.metrics.listen']],
  ['all the world as a forwarder', { 'from: []': 'from: [10.0.0.0/8, 0.0.0.0/0, x]' }, ['proxy.proxyProtocol.from.1', 'proxy.proxyProtocol.from.2']],
  ['a KBS that is not there', { 'kbs: main\n': 'kbs: other\n' }, ['proxy.kbs']],
  [
    'a key store that is not there',
    { 'kind: ed25519, key: { file: /run/secrets/receipts.pem }': 'kind: key-store, store: nowhere, keyId: k' },
    ['receipts.signer.store'],
  ],
  ['a key store of an unknown kind', { 'kind: aws-kms': 'kind: other' }, ['keyStores.provider-kms.kind']],
  [
    'plain HTTP in production',
    { 'publicUrl: https': 'publicUrl: http', 'url: https://kbs.internal.example:8080': 'url: http://127.0.0.1:8080' },
    ['kbs.main.url', 'kbs.main.publicUrl'],
  ],
  ['a proxy without TLS in production', { 'tls: {': '# {' }, ['proxy.tls']],
  [
    'a service account of a cluster that we stand outside of',
    { 'kubeconfig: { file: /run/secrets/gpu-east.kubeconfig }': 'inCluster: true' },
    ['clusters.gpu-east.inCluster'],
  ],
  ['listening to the world in the lab', { 'mode: production': 'mode: lab' }, ['serve.webhook.listen', 'serve.metrics.listen', 'proxy.listen']],
] as const)('%s is refused, by its field', (_, changes, fields) => {
  expect(mistakesIn(changes).map((mistake) => mistake.split(' ')[1])).toEqual(fields);
});

test('two KBSs at one address are refused: each would overwrite the other’s policy', () => {
  const [, main = ''] = /^kbs:\n([\s\S]*?)^keyStores:/m.exec(EXAMPLE) ?? [];
  expect(mistakesIn({ [main]: `${main}${main.replace('  main:', '  twin:')}` }).map((mistake) => mistake.split(' ')[1])).toEqual(['kbs.twin.url']);
});

test('the database’s variable must be set', () => {
  expect(mistakesIn({}, {})).toEqual([expect.stringContaining('database.url.env')]);
});

test.each(['a: 1\na: 2', 'a: &x 1\nb: *x', 'a: !!js/function x', '', '[]', 'a: [', '"'])(
  'YAML that is odd, broken or no configuration (%#) is a mistake, not a crash',
  (text) => {
    expect(() => parseConfig('k.yaml', text, ENVIRONMENT)).toThrow(expect.objectContaining({ reason: 'Malformed' }));
  },
);

test('a file that is not there is said', async () => {
  await expect(loadConfig('/nowhere/keyturn.yaml', ENVIRONMENT)).rejects.toMatchObject({ reason: 'NotFound' });
});
