import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import axe from 'axe-core';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import {
  collectComplaints,
  countColouredPixels,
  pictures,
  type Stack,
  startBrowser,
  startStack,
} from '../../browser/browser.ts';
import { startApp } from '../../support/app.ts';
import { stopAll } from '../../support/processes.ts';
import { request } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';

let browser: Browser;
let stack: Stack;
let context: BrowserContext;
const complaints: string[] = [];

beforeAll(async () => {
  browser = await startBrowser();
  stack = await startStack();
  for (let i = 0; i < 5; i++) await visit(20);
});
afterEach(async () => {
  await context?.close();
  expect(complaints.splice(0)).toEqual([]);
});
afterAll(async () => {
  await browser?.close();
  await stopAll();
});

const visit = (times = 1) => Promise.all(Array.from({ length: times }, () => request(stack.nginx)));
const isState = (page: Page, text: string | RegExp, limit?: number) =>
  waitFor(
    async () => {
      const state = (await page.locator('#state').textContent()) ?? '';
      return typeof text === 'string' ? state === text : text.test(state);
    },
    `the state ${text}`,
    limit,
  );
const numberOn = async (page: Page) => Number(await page.locator('#hits').textContent());

async function open(path: string, options: Parameters<Browser['newContext']>[0] = {}): Promise<Page> {
  context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  return openTab(path);
}

async function openTab(path: string): Promise<Page> {
  const page = await context.newPage();
  collectComplaints(page, complaints);
  // Chromium gives up when an interface of the machine changes, as engines of containers make it do.
  await waitFor(() => page.goto(`${stack.url}${path}`), `the page /${path}`);
  return page;
}

describe('the number', () => {
  test('moves in two tabs when anybody visits any worker, and stands still when paused', async () => {
    const first = await open('');
    const second = await (await browser.newContext()).newPage();
    await second.goto(stack.url);
    await Promise.all([isState(first, 'live'), isState(second, 'live')]);
    const before = await numberOn(second);
    await visit(5);
    for (const page of [first, second])
      await waitFor(async () => (await numberOn(page)) === before + 5, 'the visits');
    await first.locator('#pause').click();
    await isState(first, 'paused');
    await visit();
    await waitFor(async () => (await numberOn(second)) === before + 6, 'the visit');
    expect(await numberOn(first)).toBe(before + 5);
    await second.context().close();
  });

  test('is right without script, only still', async () => {
    const page = await open('', { javaScriptEnabled: false });
    const number = await numberOn(page);
    expect(number).toBeGreaterThan(100);
    expect(await page.locator('#pause').isVisible()).toBe(false);
  });

  test('works in seven tabs of one browser', async () => {
    const tabs = [await open('')];
    while (tabs.length < 7) tabs.push(await openTab(''));
    await isState(tabs.at(-1) as Page, 'live');
    expect(await numberOn(tabs.at(-1) as Page)).toBeGreaterThan(100);
  });
});

describe('a plot', () => {
  const drawn = (page: Page, figure: string) =>
    waitFor(async () => (await countColouredPixels(page, figure)) > 200, `pixels of ${figure}`);

  test('is drawn, hovered, zoomed, reset, and walked through by the keyboard', async () => {
    const page = await open('dashboard');
    for (const figure of ['visits', 'rate', 'latency', 'share', 'store']) await drawn(page, figure);
    const rate = page.locator('#rate');
    const box = await rate.locator('.u-over').boundingBox();
    if (!box) throw new Error('no plot');
    await page.mouse.move(box.x + box.width / 2, box.y + 20);
    await waitFor(
      async () => /\d/.test((await rate.locator('.u-legend').textContent()) ?? ''),
      'a value at the cursor',
    );
    const reset = rate.locator('.reset');
    expect(await reset.isDisabled()).toBe(true);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + 20, { steps: 5 });
    await page.mouse.up();
    await waitFor(async () => reset.isEnabled(), 'the zoom');
    await reset.click();
    expect(await reset.isDisabled()).toBe(true);
    await rate.locator('.plot').focus();
    await page.keyboard.press('ArrowLeft');
    await isState(page, /: visits \d+ visits\/s/);
  });

  test('is read as a table, saved as CSV, and read again by choice', async () => {
    const page = await open('dashboard');
    await drawn(page, 'rate');
    await page.locator('#pause').click();
    await isState(page, 'paused');
    const rate = page.locator('#rate');
    await rate.locator('summary').click();
    expect(await rate.locator('table caption').textContent()).toMatch(/^Visits a second, in visits\/s/);
    const rows = await rate.locator('details tbody tr').count();
    expect(rows).toBeGreaterThan(2);
    const download = page.waitForEvent('download');
    await rate.locator('.csv').click();
    expect(readFileSync(await (await download).path(), 'utf8')).toMatch(/^"time","visits"\r\n\d/);
    await page.locator('#pause').click();
    await page.locator('#visits select').selectOption('days');
    await page.locator('#visits details summary').click();
    await waitFor(async () => (await page.locator('#visits details tbody tr').count()) === 30, 'thirty days');
  });
});

describe('what happens to the service while it is watched', () => {
  test('workers that are killed or reloaded are marked, and the page stays live', async () => {
    const page = await open('dashboard');
    await isState(page, 'live');
    process.kill(stack.app.workers()[0] as number, 'SIGKILL');
    const marks = page.locator('#marks');
    await waitFor(async () => /worker \d+ died/.test((await marks.textContent()) ?? ''), 'the death');
    stack.app.kill('SIGHUP');
    await waitFor(async () => /all workers reloaded/.test((await marks.textContent()) ?? ''), 'the reload');
    await isState(page, 'live');
  });

  test('a frozen worker: the page moves to another one', async () => {
    const page = await open('');
    await isState(page, 'live');
    const frozen = stack.app.workers()[0] as number;
    process.kill(frozen, 'SIGSTOP');
    try {
      await visit();
      await new Promise((resume) => setTimeout(resume, 7_000));
      const { body } = await request(stack.nginx);
      const last = Number(/\d+/.exec(body)?.[0]);
      await waitFor(async () => (await numberOn(page)) >= last, 'the number', 8_000);
    } finally {
      process.kill(frozen, 'SIGCONT');
    }
  });

  test('Redis away, and back', async () => {
    const page = await open('dashboard');
    await isState(page, 'live');
    await stack.redis.kill();
    await isState(page, /Redis is away/);
    await stack.redis.start();
    await isState(page, 'live');
  });

  test('a restart: lost, and live again', async () => {
    const page = await open('dashboard');
    await isState(page, 'live');
    stack.app.kill('SIGTERM');
    await stack.app.exited;
    await isState(page, /^lost/, 10_000);
    const { address, ...rest } = stack.app;
    expect(rest.pid).toBeGreaterThan(0);
    if (!('socketPath' in address)) throw new Error('no socket');
    stack.app = await startApp({
      env: {
        WEB_CONCURRENCY: '2',
        DASHBOARD: 'open',
        REDIS_URL: stack.redis.url,
        LISTEN: address.socketPath,
      },
    });
    await isState(page, 'live', 5_000);
  });
});

test.each(
  ['', 'dashboard'].flatMap((path) =>
    (['light', 'dark'] as const).flatMap((colorScheme) =>
      [320, 1280].map((width) => ({ path, colorScheme, width })),
    ),
  ),
)(
  'axe finds nothing, and nothing moves: /$path, $colorScheme, $width px',
  async ({ path, colorScheme, width }) => {
    const page = await open(path, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
    await isState(page, 'live');
    if (path) await waitFor(async () => (await countColouredPixels(page, 'rate')) > 200, 'the plot');
    const shift = await page.evaluate(
      () =>
        new Promise<number>((resolve) => {
          new PerformanceObserver((list) =>
            resolve(
              list
                .getEntries()
                .reduce((sum, entry) => sum + (entry as unknown as { value: number }).value, 0),
            ),
          ).observe({ type: 'layout-shift', buffered: true });
          setTimeout(() => resolve(0), 500);
        }),
    );
    expect(shift).toBe(0);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    await page.evaluate(axe.source);
    const violations = await page.evaluate(async () => {
      const { axe } = window as unknown as { axe: typeof import('axe-core') };
      return (await axe.run()).violations.map(
        ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`,
      );
    });
    expect(violations).toEqual([]);
    await page.screenshot({
      path: join(pictures, `${path || 'number'}-${colorScheme}-${width}.png`),
      fullPage: true,
    });
  },
);

test('without nginx the app serves its files itself', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', DASHBOARD: 'open' } });
  if (!('port' in app.address)) throw new Error('no port');
  context = await browser.newContext();
  const page = await context.newPage();
  collectComplaints(page, complaints);
  await page.goto(`http://localhost:${app.address.port}/`);
  await isState(page, 'live');
  await page.getByText('Plots').click();
  await isState(page, 'live');
  await page.locator('#rate canvas').waitFor();
});

// To renew it: cp test/app/dashboard/browser/pictures/picture.png docs/picture.png
test("the README's picture: the number beside its plots, as visits come and go", async () => {
  stack = await startStack(); // one that nothing has been done to yet
  const number = await open('', { viewport: { width: 360, height: 820 } });
  const plots = await openTab('dashboard');
  await plots.setViewportSize({ width: 920, height: 820 });
  await Promise.all([isState(number, 'live'), isState(plots, 'live')]);
  await plots.locator('#visits').evaluate((figure) => figure.style.setProperty('display', 'none')); // bars of hours
  const begin = performance.now();
  for (let seconds = 0; seconds < 40; seconds = (performance.now() - begin) / 1000) {
    const visits = visit(Math.round(5 + 3 * Math.sin(seconds / 5) + 2 * Math.random()));
    await Promise.all([visits, new Promise((resume) => setTimeout(resume, 50))]);
  }
  const images = [];
  for (const page of [number, plots]) {
    images.push(`<img src="data:image/png;base64,${(await page.screenshot()).toString('base64')}">`);
  }
  const both = await context.newPage();
  await both.setViewportSize({ width: 1280, height: 820 });
  await both.setContent(`<body style="margin: 0; display: flex">${images.join('')}</body>`);
  const path = join(pictures, 'picture.png');
  await both.screenshot({ path });
  expect(statSync(path).size).toBeLessThan(150_000); // bytes
}, 90_000);
