/** The page of any service's figures, in a real browser. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import * as plots from '../../src/plots.ts';
import { serve } from '../server/dashboard/serve.ts';
import { startApp } from '../support/app.ts';
import { stopAll } from '../support/processes.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { waitFor } from '../support/wait.ts';
import { collectComplaints, isDrawn, isState, judgePage, pictures, startBrowser } from './browser.ts';

let browser: Browser;
let context: BrowserContext;
const complaints: string[] = [];

beforeAll(async () => {
  browser = await startBrowser();
});
afterEach(async () => {
  await context?.close();
  await stopAll();
  expect(complaints.splice(0)).toEqual([]);
});
afterAll(() => browser?.close());

async function open(url: string, options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  collectComplaints(page, complaints);
  await waitFor(() => page.goto(url), `the page ${url}`);
  return page;
}

async function show(figures: plots.Plot[], options?: Parameters<typeof open>[1], search = ''): Promise<Page> {
  const { port } = await serve(figures, { development: true });
  return open(`http://localhost:${port}/dashboard${search}`, options);
}

const bars = {
  mark: 'bar',
  encoding: { x: { field: 'of' }, y: { field: 'n', type: 'quantitative' } },
} as const;
const rows = () => [1, 2, 3].map((n) => ({ of: `row ${n}`, n }));
const simple = (name: string, more: object = {}) =>
  plots.plot({ name, title: `Title of ${name}`, rows, figure: bars, ...more });
const cell = (page: Page, figure: string) => page.locator(`#${figure} tbody td`).first();
const hasText = (page: Page, figure: string, text: string | RegExp) =>
  waitFor(async () => {
    const found = (await cell(page, figure).textContent({ timeout: 500 })) ?? '';
    return typeof text === 'string' ? found === text : text.test(found);
  }, `${text} in ${figure}`);

const controls = {
  one: plots.select({ a: 'The first', b: 'The second' }),
  some: plots.multiSelect(['x', 'y', 'z'], { value: ['x', 'y', 'z'] }),
  slide: plots.slider({ min: 0, max: 10, value: 5 }),
  count: plots.number({ min: 1, value: 3 }),
  text: plots.text(),
  tick: plots.checkbox({ label: 'Tick it' }),
  days: plots.dates({ min: '2026-01-01' }),
};
const echo = plots.table({
  name: 'echo',
  title: 'Values',
  controls,
  rows: (values) => [{ values: JSON.stringify(values) }],
});

describe('controls', () => {
  test('a change of each is answered, stands in the address, and is there after a reload', async () => {
    const page = await show([echo]);
    const has = (part: string) =>
      waitFor(async () => (await cell(page, 'echo').textContent())?.includes(part), part);
    await has('"one":"a","some":["x","y","z"],"slide":5,"count":3,"text":"","tick":false');
    expect(new URL(page.url()).search).toBe('');
    await page.locator('[name=one]').selectOption('b');
    await has('"one":"b"');
    await page.getByLabel('y', { exact: true }).uncheck();
    await has('"some":["x","z"]');
    await page.locator('[name=slide]').focus();
    await page.keyboard.press('ArrowRight');
    await has('"slide":6');
    await page.locator('[name=count]').fill('7');
    await has('"count":7');
    await page.locator('[name=text]').fill('any & all');
    await has('"text":"any & all"');
    await page.getByLabel('Tick it').check();
    await has('"tick":true');
    await page.getByLabel('days, to').fill('2026-11-28');
    await has('"to":"2026-11-28"');
    const search =
      '?one=b&some=x&some=z&slide=6&count=7&text=any+%26+all&tick=true&days.from=2026-01-01&days.to=2026-11-28';
    expect(new URL(page.url()).search).toBe(search);
    await page.reload();
    await has('{"one":"b","some":["x","z"],"slide":6,"count":7,"text":"any & all","tick":true');
    await page.locator('[name=count]').fill('0'); // below its minimum: nothing is asked
    await page.getByLabel('x', { exact: true }).uncheck();
    await page.getByLabel('z', { exact: true }).uncheck();
    await has('"some":[]');
    await has('"count":7');
  });

  test('one of two figures stands once at the top, and asks for both', async () => {
    const one = { controls: { least: plots.slider({ min: 0, max: 9, value: 0 }) } };
    const list = (name: string) =>
      plots.table({ name, title: name, ...one, rows: ({ least }) => [{ least: `${name} ${least}` }] });
    const page = await show([list('first'), list('second'), simple('other')]);
    await hasText(page, 'second', 'second 0');
    expect(await page.locator('[name=least]').count()).toBe(1);
    await page.locator('#controls [name=least]').fill('4');
    await hasText(page, 'first', 'first 4');
    await hasText(page, 'second', 'second 4');
  });

  test('an answer that is overtaken by a later one is dropped', async () => {
    const answered: string[] = [];
    const held = plots.table({
      name: 'held',
      title: 'Held',
      controls: { how: plots.select(['start', 'slow', 'quick']) },
      async rows({ how }) {
        if (how === 'slow') await new Promise((resume) => setTimeout(resume, 1_000));
        answered.push(how);
        return [{ how }];
      },
    });
    const page = await show([held]);
    await hasText(page, 'held', 'start');
    await page.locator('[name=how]').selectOption('slow');
    await waitFor(
      async () => (await page.locator('#held').getAttribute('aria-busy')) === 'true',
      'the question',
    );
    await page.locator('[name=how]').selectOption('quick');
    await hasText(page, 'held', 'quick');
    await waitFor(() => answered.includes('slow'), 'the slow answer');
    await new Promise((resume) => setTimeout(resume, 200)); // for its way back
    expect(await cell(page, 'held').textContent()).toBe('quick');
  });
});

describe('a figure', () => {
  test('loads, has no rows, fails with its line, and draws again', async () => {
    const release: (() => void)[] = [];
    const states = plots.plot({
      name: 'states',
      title: 'States',
      controls: { what: plots.select(['wait', 'none', 'throw', 'draw']) },
      async rows({ what }) {
        if (what === 'wait') await new Promise<void>((resume) => release.push(resume));
        if (what === 'throw') throw new Error('the rows are broken');
        return what === 'none' ? [] : rows();
      },
      figure: bars,
    });
    const page = await show([states]);
    const stage = page.locator('#states .stage');
    const says = (text: RegExp) =>
      waitFor(async () => text.test((await stage.textContent()) ?? ''), `${text}`);
    await says(/^Loading/);
    await waitFor(() => release.length > 0, 'the question');
    for (const resume of release) resume();
    await isDrawn(page, 'states');
    await page.locator('[name=what]').selectOption('none');
    await says(/^No rows/);
    await page.locator('[name=what]').selectOption('throw');
    await says(/^the rows are broken/);
    await page.locator('[name=what]').selectOption('draw');
    await isDrawn(page, 'states');
    expect(await stage.locator('[role=img]').getAttribute('aria-label')).toMatch(
      /^States: 3 rows; .*n from 1 to 3/,
    );
  });

  test('that Vega cannot draw says why', async () => {
    const page = await show([
      simple('wrong', {
        figure: {
          mark: 'bar',
          encoding: { x: { field: 'n', bin: { step: -1 } } },
          transform: [{ filter: 'datum.(' }],
        },
      }),
    ]);
    await waitFor(
      async () => /cannot be shown/.test((await page.locator('#wrong .failed').textContent()) ?? ''),
      'why',
    );
  });

  test('is saved as CSV, JSON and SVG, and sorted as a table', async () => {
    const page = await show([simple('saved')]);
    await isDrawn(page, 'saved');
    const save = async (what: string) => {
      const download = page.waitForEvent('download');
      await page.locator('#saved footer').getByText(what).click();
      return readFileSync(await (await download).path(), 'utf8');
    };
    expect(await save('CSV')).toContain('row 3');
    expect(JSON.parse(await save('JSON'))).toEqual(rows());
    expect(await save('SVG')).toMatch(/^<svg[\s\S]*row 3/);
    await page.locator('#saved summary').click();
    await hasText(page, 'saved', 'row 1');
    const heading = page.locator('#saved th button', { hasText: 'n' });
    for (const first of ['row 1', 'row 3']) {
      await heading.click();
      await hasText(page, 'saved', first);
    }
    expect(await page.locator('#saved th[aria-sort]').getAttribute('aria-sort')).toBe('descending');
  });

  test('is asked for again by `every`, but not while the page is paused', async () => {
    let asked = 0;
    const clock = plots.table({ name: 'clock', title: 'Clock', every: 1, rows: () => [{ asked: ++asked }] });
    const page = await show([clock]);
    await isState(page, 'live');
    await hasText(page, 'clock', /^[3-9]/);
    await page.locator('#pause').click();
    await isState(page, 'paused');
    const before = asked;
    await new Promise((resume) => setTimeout(resume, 2_500));
    expect(asked).toBeLessThanOrEqual(before + 1);
    await page.locator('#pause').click();
    await waitFor(() => asked > before + 1, 'the next one');
  });

  test.each(['Pacific/Auckland', 'America/New_York'])(
    'never shows a day as another one: %s',
    async (timezoneId) => {
      const day = { field: 'day', type: 'temporal', timeUnit: 'yearmonthdate' } as const;
      const days = (timeUnit: 'yearmonthdate' | 'utcyearmonthdate') => ({
        rows: () => [{ day: '2026-11-28', n: 1 }],
        figure: {
          mark: 'bar',
          encoding: { x: { ...day, timeUnit }, y: { field: 'n', type: 'quantitative' } },
        },
      });
      const figures = [simple('local', days('yearmonthdate')), simple('utc', days('utcyearmonthdate'))];
      const page = await show(figures, { timezoneId });
      for (const [figure, zone] of [
        ['local', timezoneId],
        ['utc', 'UTC'],
      ] as const) {
        await isDrawn(page, figure);
        expect(await page.locator(`#${figure} footer small`).textContent()).toBe(`times in ${zone}`);
        const download = page.waitForEvent('download');
        await page.locator(`#${figure} footer`).getByText('SVG').click();
        expect(readFileSync(await (await download).path(), 'utf8')).toContain('Nov 28, 2026');
      }
    },
  );
});

describe('a live figure', () => {
  const line = (sample: () => unknown) =>
    plots.live({
      name: 'line',
      title: 'Live',
      sample,
      rows: (samples) => [...samples.values()].flatMap((n) => (n === null ? [] : [{ n: n as number }])),
      figure: {
        mark: 'line',
        encoding: { x: { field: 'time', type: 'temporal' }, y: { field: 'n', type: 'quantitative' } },
      },
    });

  test('moves, stands still while it is paused, and has what it missed afterwards', async () => {
    let n = 0;
    const page = await show([line(() => ++n)]);
    await isDrawn(page, 'line', 50);
    await page.locator('#line summary').click();
    const count = () => page.locator('#line tbody tr').count();
    const before = await count();
    await waitFor(async () => (await count()) > before + 1, 'new seconds');
    await page.locator('#pause').click();
    await isState(page, 'paused');
    const paused = await count();
    await new Promise((resume) => setTimeout(resume, 5_000));
    expect(await count()).toBe(paused);
    await page.locator('#pause').click();
    await waitFor(async () => (await count()) >= paused + 5, 'what it missed', 5_000);
  });

  test('shows a point that has no neighbour', async () => {
    let n = 0;
    const page = await show([line(() => (++n === 2 ? 7 : null))]);
    await isDrawn(page, 'line', 1);
  });
});

describe('all kinds of figures', () => {
  const all = () => [
    plots.heading('A heading', 'and what it says'),
    simple('bars', {
      width: 'whole',
      text: 'A sentence.',
      controls: { least: plots.slider({ min: 0, max: 9, value: 0 }) },
    }),
    { ...echo, controls: { ...controls, least: plots.slider({ min: 0, max: 9, value: 0 }) } },
    plots.live({
      name: 'live',
      title: 'Live',
      sample: () => ({ n: 3 }),
      figure: {
        mark: 'bar',
        encoding: { x: { field: 'time', type: 'temporal' }, y: { field: 'n', type: 'quantitative' } },
      },
    }),
    simple('empty', { rows: () => [] }),
    simple('failed', {
      rows: () => {
        throw new Error('no rows today');
      },
    }),
  ];

  test.each(
    (['light', 'dark'] as const).flatMap((colorScheme) =>
      [390, 1280].map((width) => ({ colorScheme, width })),
    ),
  )('axe finds nothing, and nothing moves: $colorScheme, $width px', async ({ colorScheme, width }) => {
    const page = await show(all(), { colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
    await isState(page, 'live');
    for (const figure of ['bars', 'live']) await isDrawn(page, figure);
    for (const summary of await page.locator('summary:visible').all()) await summary.click();
    await page.mouse.move(0, 0);
    expect(await judgePage(page)).toEqual({ violations: [], shift: 0, fits: true });
    await page.screenshot({ path: join(pictures, `dashboard-${colorScheme}-${width}.png`), fullPage: true });
  });

  test('are drawn in the colours of the theme, as it changes, and in light ones on paper', async () => {
    const page = await show([simple('bars')], { colorScheme: 'light' });
    await isDrawn(page, 'bars');
    const background = () =>
      page.locator('#bars canvas').evaluate((canvas) => {
        const context = (canvas as HTMLCanvasElement).getContext('2d') as CanvasRenderingContext2D;
        return context.getImageData(1, 1, 1, 1).data[0] as number;
      });
    const is = (what: string, test: (red: number) => boolean) =>
      waitFor(async () => test(await background()), what);
    await is('light', (red) => red > 200);
    await page.emulateMedia({ colorScheme: 'dark' });
    await is('dark', (red) => red < 60);
    await page.evaluate(() => dispatchEvent(new Event('beforeprint')));
    await is('paper', (red) => red > 200);
    await page.evaluate(() => dispatchEvent(new Event('afterprint')));
    await is('dark again', (red) => red < 60);
  });
});

test('after a save the open page has the new table, its controls as they were, and its place', async () => {
  const copy = copyWithTestService();
  const saved = join(copy, 'saved');
  writeFileSync(saved, '');
  const app = await startApp({
    entry: join(copy, 'dist/main.js'),
    env: { DASHBOARD: 'open', RELOAD: saved, WEB_CONCURRENCY: '1' },
  });
  if (!('port' in app.address)) throw new Error('no port');
  const page = await open(`http://localhost:${app.address.port}/dashboard`, {
    viewport: { width: 400, height: 300 },
  });
  await isState(page, 'live');
  await isDrawn(page, 'steps');
  await page.locator('[name=step]').fill('7');
  await page.evaluate(() => scrollTo(0, 150));
  const place = await page.evaluate(() => scrollY);
  expect(place).toBeGreaterThan(100);
  const service = join(copy, 'dist/app/service.js');
  writeFileSync(service, readFileSync(service, 'utf8').replace("'Steps'", "'Other steps'"));
  const begin = performance.now();
  writeFileSync(saved, 'again');
  await page.getByText('Other steps', { exact: true }).waitFor();
  await isDrawn(page, 'steps');
  process.stdout.write(`save to new figure: ${Math.round(performance.now() - begin)} ms\n`);
  expect(await page.locator('[name=step]').inputValue()).toBe('7');
  expect(await page.evaluate(() => scrollY)).toBe(place);
});

test('below the path prefix of an editor it works, too', async () => {
  const { port } = await serve([simple('bars')]);
  const proxy = createServer(({ url = '', headers }, response) => {
    get({ port, path: url.replace('/proxy/8080', ''), headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(response);
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, resolve));
  try {
    const page = await open(`http://localhost:${(proxy.address() as AddressInfo).port}/proxy/8080/dashboard`);
    await isDrawn(page, 'bars');
    await isState(page, 'live');
    await context.close();
  } finally {
    proxy.closeAllConnections();
    proxy.close();
  }
});

test('10,000 rows: the first figure, and a new one after the slider has moved', async () => {
  const many = Array.from({ length: 10_000 }, (_, i) => ({ n: (i * 7919) % 1_000 }));
  const histogram = plots.plot({
    name: 'many',
    title: 'Many',
    controls: { step: plots.slider({ min: 10, max: 100, step: 10, value: 50 }) },
    rows: () => many,
    figure: ({ step }) => ({
      mark: 'bar',
      encoding: { x: { field: 'n', bin: { step } }, y: { aggregate: 'count' } },
    }),
  });
  const begin = performance.now();
  const page = await show([histogram]);
  await isDrawn(page, 'many');
  const first = performance.now() - begin;
  const changed = await page.evaluate(async () => {
    const before = document.querySelector('#many canvas');
    const slider = document.querySelector('[name=step]') as HTMLInputElement;
    const begin = performance.now();
    slider.value = '20';
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    while (document.querySelector('#many canvas') === before) await new Promise(requestAnimationFrame);
    return performance.now() - begin;
  });
  process.stdout.write(
    `first figure: ${Math.round(first)} ms; slider to new figure: ${Math.round(changed)} ms\n`,
  );
  expect(first).toBeLessThan(15_000);
  expect(changed).toBeLessThan(5_000);
});
