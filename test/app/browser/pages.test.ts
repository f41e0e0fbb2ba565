import { statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import {
  collectComplaints,
  isDrawn,
  isState,
  judgePage,
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
/** Those of src/app/plots.ts. */
const figures = ['visits', 'rate', 'share', 'latency', 'store'];
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

test('the table of plots is drawn, and read again by choice', async () => {
  await visit(5);
  const page = await open('dashboard', { timezoneId: 'Asia/Tokyo' });
  for (const figure of figures) await isDrawn(page, figure, 20);
  const zone = () => page.locator('#visits footer small').textContent();
  expect(await zone()).toBe('times in Asia/Tokyo');
  await page.locator('[name=bars]').selectOption('days');
  await waitFor(async () => (await zone()) === 'times in UTC', 'days');
  await isDrawn(page, 'visits');
});

describe('what happens to the service while it is watched', () => {
  test('workers that are killed or reloaded: the page stays live', async () => {
    const page = await open('dashboard');
    await isState(page, 'live');
    process.kill(stack.app.workers()[0] as number, 'SIGKILL');
    stack.app.kill('SIGHUP');
    await stack.app.waitForLog(/reloaded/);
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
    await isState(page, /^away/);
    await stack.redis.start();
    await isState(page, 'live');
  });

  test('a restart: lost, and live again', async () => {
    const page = await open('dashboard');
    await isState(page, 'live');
    stack.app.kill('SIGTERM');
    await stack.app.exited;
    await isState(page, /lost/, 10_000);
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
      [390, 1280].map((width) => ({ path, colorScheme, width })),
    ),
  ),
)(
  'axe finds nothing, and nothing moves: /$path, $colorScheme, $width px',
  async ({ path, colorScheme, width }) => {
    const page = await open(path, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
    await isState(page, 'live');
    if (path) for (const figure of figures) await isDrawn(page, figure, 20);
    expect(await judgePage(page)).toEqual({ violations: [], shift: 0, fits: true });
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
  await page.getByText('dashboard', { exact: true }).click();
  await isState(page, 'live');
  await isDrawn(page, 'rate', 20);
});

// To renew it: cp test/browser/pictures/picture.png docs/picture.png
test("the README's picture: the number beside its plots, as visits come and go", async () => {
  stack = await startStack(); // one that nothing has been done to yet
  const number = await open('', { viewport: { width: 400, height: 860 } });
  const plots = await openTab('dashboard');
  await plots.setViewportSize({ width: 1000, height: 860 });
  await Promise.all([isState(number, 'live'), isState(plots, 'live')]);
  const begin = performance.now();
  for (let seconds = 0; seconds < 60; seconds = (performance.now() - begin) / 1000) {
    const visits = visit(Math.round(5 + 3 * Math.sin(seconds / 5) + 2 * Math.random()));
    await Promise.all([visits, new Promise((resume) => setTimeout(resume, 50))]);
  }
  await plots.locator('#rate').evaluate((figure) => figure.scrollIntoView());
  const images = [];
  for (const page of [number, plots]) {
    images.push(`<img src="data:image/png;base64,${(await page.screenshot()).toString('base64')}">`);
  }
  const both = await context.newPage();
  await both.setViewportSize({ width: 1400, height: 860 });
  await both.setContent(`<body style="margin: 0; display: flex">${images.join('')}</body>`);
  const path = join(pictures, 'picture.png');
  await both.screenshot({ path });
  expect(statSync(path).size).toBeLessThan(200_000); // bytes
}, 120_000);
