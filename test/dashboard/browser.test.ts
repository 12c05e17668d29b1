/**
 * The pages in a real browser. Where none can run, every test here is skipped, and says why. `KEYTURN_SCREENS=<folder>` keeps what
 * was seen.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, it, type TestContext, vi } from 'vitest';
import { tell } from '../world/story.ts';
import { type Opened, openChromium } from './chromium.ts';
import { setScene } from './scene.ts';
import { addDocument, type Stand, withDashboard } from './stand.ts';

interface Measured {
  readonly scrolls: boolean;
  readonly outside: readonly string[];
  readonly faint: readonly { readonly text: string; readonly contrast: number }[];
  readonly texts: number;
  readonly smallTargets: number;
  readonly ids: readonly string[];
  readonly headings: readonly number[];
  readonly labels: readonly string[];
  readonly language: string;
}

const SCREENS = process.env.KEYTURN_SCREENS;
/** WCAG 2.2 asks for 320; telephones have 360. */
const WIDTHS = [1280, 360, 320] as const;
/** Unpacking a browser and telling a night's story takes some ten seconds; a loaded machine gets many. */
const SETTING_SECONDS = 300;
const MEASURE = await readFile(join(import.meta.dirname, 'measure.js'), 'utf8');

vi.setConfig({ testTimeout: SETTING_SECONDS * 1000 });

let opened: Opened = { kind: 'missing', why: 'it was not opened' };
let stand: Stand;
let paths: Readonly<Record<string, string>> = {};
const over = Promise.withResolvers<void>();
let told: Promise<void> = Promise.resolve();

beforeAll(async () => {
  opened = await openChromium();
  if (opened.kind === 'missing') {
    // The reporter counts what was skipped, and says why only where it is asked to.
    process.stderr.write(`\nSKIPPED: the pages were not looked at in a browser: ${opened.why}\n\n`);
    return;
  }
  const begun = Promise.withResolvers<void>();
  told = tell({}, async (story) => {
    const rotation = await setScene(story);
    const { rows } = await story.pool.query<{ rotation: string }>(`select rotation from revisions where workload = 'rerank'`);
    paths = {
      ...{
        board: '/',
        revocations: '/revocations',
        revocation: '/revocations/leaked-prompt',
        documents: '/documents',
        history: '/workloads/chat',
        missing: '/nothing',
      },
      ...{ rotation: `/rotations/${rotation}`, finished: `/rotations/${rows[0]?.rotation}` },
    };
    await addDocument(story.pool, { path: `releases/"><img src=x onerror=alert(1)>/1.yaml`, about: '<script>alert(1)</script>', reason: 'WrongPlace' });
    await withDashboard(story.pool, async (open) => {
      stand = open;
      begun.resolve();
      await over.promise;
    });
  });
  await Promise.race([begun.promise, told]);
}, SETTING_SECONDS * 1000);

afterAll(async () => {
  over.resolve();
  await told;
  if (opened.kind === 'open') await opened.close();
});

/** Runs `fn` with a page that hears of everything that a browser complains about. */
async function withPage(
  test: TestContext,
  options: Parameters<Extract<Opened, { kind: 'open' }>['browser']['newContext']>[0],
  fn: (page: Page) => Promise<void>,
): Promise<void> {
  if (opened.kind === 'missing') return test.skip(opened.why);
  const context: BrowserContext = await opened.browser.newContext(options);
  const complaints: string[] = [];
  try {
    const page = await context.newPage();
    // That a page is not there is what the browser tells of it, and is meant.
    page.on('console', (message) => message.location().url.includes('/nothing') || complaints.push(`console ${message.type()}: ${message.text()}`));
    page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => complaints.push(`dialog: ${dialog.message()}`));
    page.on('request', (request) => request.url().startsWith(`${stand.url}/`) || complaints.push(`request: ${request.url()}`));
    page.on('requestfailed', (request) => complaints.push(`failed: ${request.url()} ${request.failure()?.errorText}`));
    await fn(page);
    expect(complaints).toEqual([]);
  } finally {
    await context.close();
  }
}

/** Opens a page that holds still. */
async function go(page: Page, name: string): Promise<void> {
  const answer = await page.goto(`${stand.url}${paths[name]}?refresh=off`);
  if (answer === null) throw new Error(`no answer for ${name}`);
}

for (const colorScheme of ['light', 'dark'] as const) {
  it(`in ${colorScheme}, every page fits every width, every text has contrast, and the browser complains of nothing`, async (test) => {
    await withPage(test, { colorScheme }, async (page) => {
      for (const name of Object.keys(paths)) {
        for (const width of WIDTHS) {
          await page.setViewportSize({ width, height: 900 });
          await go(page, name);
          const found = await page.evaluate<Measured>(MEASURE);
          const where = `${name} at ${width}`;
          expect(found.scrolls, where).toBe(false);
          expect(found.outside, where).toEqual([]);
          expect(found.faint, where).toEqual([]);
          expect(found.texts, where).toBeGreaterThan(10);
          expect(found.smallTargets, where).toBe(0);
          if (SCREENS !== undefined) await keep(page, `${name}-${width}-${colorScheme}`);
        }
      }
    });
  });
}

it('on paper every text has contrast, and nothing is cut off', async (test) => {
  await withPage(test, { colorScheme: 'dark', viewport: { width: 720, height: 1000 } }, async (page) => {
    await page.emulateMedia({ media: 'print', colorScheme: 'dark' });
    for (const name of Object.keys(paths)) {
      await go(page, name);
      const { faint, scrolls, outside } = await page.evaluate<Measured>(MEASURE);
      expect({ name, faint, scrolls, outside }).toEqual({ name, faint: [], scrolls: false, outside: [] });
    }
  });
});

it('a screen reader finds landmarks, headings in order, named tables with their roles, and labels that exist', async (test) => {
  await withPage(test, { viewport: { width: 360, height: 800 } }, async (page) => {
    for (const name of Object.keys(paths)) {
      await go(page, name);
      const { headings, ids, labels, language } = await page.evaluate<Measured>(MEASURE);
      expect(language).toBe('en');
      expect(new Set(ids).size, 'no id twice').toBe(ids.length);
      expect(labels.filter((label) => !ids.includes(label))).toEqual([]);
      expect(headings.filter((level) => level === 1)).toHaveLength(1);
      expect(headings.filter((level, index) => level > (headings[index - 1] ?? 0) + 1)).toEqual([]);
      for (const role of ['banner', 'navigation', 'main'] as const) expect(await page.getByRole(role).count(), `${name}: ${role}`).toBe(1);
      // Where it has no room a table is laid out as a list, and is still a table to who hears it.
      const roles = await rolesOf(page);
      expect(roles.filter((role) => role === 'table')).toHaveLength(await page.locator('table').count());
      expect(roles.filter((role) => role === 'row')).toHaveLength(await page.locator('tr').count());
      expect(roles.filter((role) => role === 'rowheader')).toHaveLength(await page.locator('tbody tr').count());
      expect(roles.filter((role) => role === 'columnheader')).toHaveLength(await page.locator('thead th').count());
    }
    await go(page, 'board');
    expect(await page.getByRole('table', { name: 'Workloads with nothing open' }).count()).toBe(1);
    expect(await page.getByRole('link', { name: 'Workloads' }).getAttribute('aria-current')).toBe('page');
  });
});

it('the keyboard reaches every link, sees where it is, and can skip to the content', async (test) => {
  await withPage(test, { viewport: { width: 1280, height: 800 } }, async (page) => {
    await go(page, 'board');
    const links = await page.getByRole('link').count();
    const focused = `(({ activeElement: at }) => ({ text: at.textContent, outline: getComputedStyle(at).outlineStyle, width: parseFloat(getComputedStyle(at).outlineWidth), top: at.getBoundingClientRect().top }))(document)`;
    const seen: string[] = [];
    for (let at = 0; at < links; at += 1) {
      await page.keyboard.press('Tab');
      const { text, outline, width, top } = await page.evaluate<{ text: string; outline: string; width: number; top: number }>(focused);
      expect({ text, outline, isWide: width >= 2, isOnScreen: top >= 0 }).toEqual({ text, outline: 'solid', isWide: true, isOnScreen: true });
      seen.push(text);
    }
    expect(seen[0]).toBe('Skip to content');
    expect(seen).toContain('Documents');
    await go(page, 'board');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    expect(await page.evaluate<string>('document.activeElement.id')).toBe('main');
  });
});

it('a person finds their way: from what needs them to its rotation, to its release, and back', async (test) => {
  await withPage(test, { viewport: { width: 1280, height: 800 } }, async (page) => {
    await page.goto(`${stand.url}/`);
    expect(await page.title()).toMatch(/^1 revocation under way, \d+ things need a person · LAB · Keyturn$/);
    await page.getByRole('link', { name: 'Pause' }).click();
    expect(page.url()).toBe(`${stand.url}/?refresh=off`);
    await page.getByRole('link', { name: 'adopt-revision stands at move-pods' }).click();
    expect(page.url()).toBe(`${stand.url}${paths.rotation}`);
    expect(await page.getByRole('region', { name: 'Release' }).textContent()).toContain('ada, bo');
    // One of its retirements: it leads to its place on the same page.
    await page.goto(`${stand.url}/?refresh=off`);
    await page.getByRole('link', { name: 'retire-revision s1-v1' }).click();
    expect(page.url()).toMatch(/#run-r-[0-9a-f]{16}$/);
    await page.getByRole('link', { name: 'Workloads' }).first().click();
    expect(new URL(page.url()).pathname).toBe('/');
  });
});

it('a revocation under way is the first thing there, its page tells since when what is undone, and the list leads back to it', async (test) => {
  await withPage(test, { viewport: { width: 1280, height: 800 } }, async (page) => {
    await go(page, 'board');
    const first = page.getByRole('main').getByRole('region').first();
    expect(await first.getAttribute('aria-labelledby')).toBe('emergencies');
    await first.getByRole('link', { name: 'Revocation leaked-prompt' }).click();
    expect(new URL(page.url()).pathname).toBe(paths.revocation);
    const line = page.getByRole('table', { name: 'From the commit to each refusal, on the database’s clock' });
    expect(await line.getByRole('columnheader').allTextContents()).toEqual(['What', 'At', 'Since the webhook', 'Known by', 'Receipt']);
    expect(await line.getByRole('rowheader').first().textContent()).toContain('A webhook said');
    expect(await page.getByRole('region', { name: 'Not done yet' }).textContent()).toContain('Undone since');
    await page.getByRole('link', { name: 'Revocations', exact: true }).first().click();
    expect(await page.getByRole('link', { name: 'leaked-prompt' }).getAttribute('href')).toBe(paths.revocation);
    // The workload that it holds says by which.
    await go(page, 'board');
    expect(await page.getByRole('link', { name: 'Held by the revocation leaked-prompt' }).getAttribute('href')).toBe(paths.revocation);
  });
});

it('what an attacker wrote runs nowhere and loads nothing', async (test) => {
  await withPage(test, {}, async (page) => {
    for (const name of ['board', 'documents']) {
      await go(page, name);
      expect(await page.getByText('<script>alert(1)</script>').count()).toBeGreaterThan(0);
      expect(await page.locator('img, script, svg').count()).toBe(0);
    }
  });
});

/** The roles of what the browser tells a screen reader. */
async function rolesOf(page: Page): Promise<readonly string[]> {
  const session = await page.context().newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  return nodes.filter(({ ignored }) => !ignored).map(({ role }) => String(role?.value));
}

async function keep(page: Page, name: string): Promise<void> {
  await mkdir(SCREENS ?? '', { recursive: true });
  await page.screenshot({ path: join(SCREENS ?? '', `${name}.png`), fullPage: true });
}
