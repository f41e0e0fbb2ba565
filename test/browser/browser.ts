/** A real Chromium, in front of the service behind nginx or alone. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { type App, startApp } from '../support/app.ts';
import { type Nginx, startNginx } from '../support/nginx.ts';
import { root, temporaryDirectory } from '../support/processes.ts';
import { type Redis, startRedis } from '../support/redis.ts';
import { waitFor } from '../support/wait.ts';

const executablePath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  existsSync,
);

/** Git ignores what is in here. */
export const pictures = join(root, 'test/browser/pictures');

export async function startBrowser(): Promise<Browser> {
  if (!executablePath) {
    throw new Error('these tests need Chromium: `sudo apt-get install chromium` (Debian), or Google Chrome');
  }
  mkdirSync(pictures, { recursive: true });
  return chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
}

export interface Stack {
  app: App;
  nginx: Nginx;
  redis: Redis;
  url: string;
}

export async function startStack(env: Record<string, string> = {}): Promise<Stack> {
  const redis = await startRedis({ appendOnly: true });
  const socketPath = join(temporaryDirectory(), 'app.sock');
  const app = await startApp({
    env: { WEB_CONCURRENCY: '2', DASHBOARD: 'open', REDIS_URL: redis.url, ...env, LISTEN: socketPath },
  });
  const nginx = await startNginx(socketPath);
  return { app, nginx, redis, url: `http://localhost:${nginx.port}/` };
}

/** Messages of the console, errors of scripts, violations of the Content-Security-Policy: there must be none. */
export function collectComplaints(page: Page, complaints: string[]): void {
  page.on('console', (message) => {
    // No mistake of the page: requests that meet a service that is away, and pixels that a test counts again and again.
    if (
      ['error', 'warning'].includes(message.type()) &&
      !/Failed to load resource|net::ERR_|willReadFrequently/.test(message.text())
    ) {
      complaints.push(message.text());
    }
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
}

/** How many pixels of a figure are neither empty nor grid: saturated ones. */
export function countColouredPixels(page: Page, figure: string): Promise<number> {
  return page.locator(`#${figure} canvas`).evaluate((element) => {
    const canvas = element as HTMLCanvasElement;
    const context = canvas.getContext('2d') as CanvasRenderingContext2D;
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    let coloured = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [red = 0, green = 0, blue = 0, alpha = 0] = data.subarray(i, i + 4);
      if (alpha > 128 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) coloured += 1;
    }
    return coloured;
  });
}

export const isDrawn = (page: Page, figure: string, least = 200) =>
  waitFor(
    async () => (await countColouredPixels(page, figure).catch(() => 0)) > least,
    `pixels of ${figure}`,
  );

export const isState = (page: Page, text: string | RegExp, limit?: number) =>
  waitFor(
    async () => {
      const state = (await page.locator('#state').textContent()) ?? '';
      return typeof text === 'string' ? state === text : text.test(state);
    },
    `the state ${text}`,
    limit,
  );

/** What axe finds, how far the page has moved while it loaded, and whether it fits: nothing, 0, true. */
export async function judgePage(page: Page): Promise<{ violations: string[]; shift: number; fits: boolean }> {
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    const shift = new Promise<number>((resolve) => {
      type Shift = PerformanceEntry & { value: number; hadRecentInput: boolean };
      const add = (sum: number, { value, hadRecentInput }: Shift) => (hadRecentInput ? sum : sum + value);
      new PerformanceObserver((list) => resolve((list.getEntries() as Shift[]).reduce(add, 0))).observe({
        type: 'layout-shift',
        buffered: true,
      });
      setTimeout(() => resolve(0), 500);
    });
    const { axe } = window as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run();
    return {
      violations: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
      shift: Number((await shift).toFixed(3)),
      fits: document.documentElement.scrollWidth <= innerWidth,
    };
  });
}
