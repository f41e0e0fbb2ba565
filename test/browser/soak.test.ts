/** A dashboard of six figures, one of them live, that is left open: a minute, or ten with FAULTS=long. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { startApp } from '../support/app.ts';
import { statOf, stopAll } from '../support/processes.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { delay } from '../support/wait.ts';
import { isDrawn, startBrowser } from './browser.ts';

const minute = 60_000;
const long = process.env.FAULTS === 'long';
const minutes = long ? 10 : 1;
// A minute on a machine that is busy shows that nothing runs away, ten minutes on a quiet one what is promised.
const bars = long ? { server: 0.03, browser: 0.1, growth: 0.1 } : { server: 0.5, browser: 0.9, growth: 1 };

const service = `
import Router from '@koa/router';
const rows = () => Array.from({ length: 300 }, (_, n) => ({ n: n % 17, of: 'abc'[n % 3] }));
const encoding = { x: { field: 'n', bin: true }, y: { aggregate: 'count' }, color: { field: 'of' } };
const line = { x: { field: 'time', type: 'temporal' }, y: { field: 'value', type: 'quantitative' }, color: { field: 'worker' } };
const figures = ['a', 'b', 'c', 'd', 'e'].map((name) =>
  ({ kind: 'plot', name, title: name, controls: {}, every: 10, rows, figure: { mark: 'bar', encoding } }));
figures.push({ kind: 'live', name: 'live', title: 'Live', controls: {}, sample: Math.random, figure: { mark: 'line', encoding: line } });
export const openService = async () => ({ router: new Router(), plots: { figures }, async ready() {}, async close() {} });
`;

let browser: Browser;
beforeAll(async () => {
  browser = await startBrowser();
});
afterAll(async () => {
  await browser?.close();
  await stopAll();
});

/** Seconds of processor time that a process has taken so far. */
function processorTime(pid: number): number {
  const [utime, stime] = statOf(pid)?.slice(11, 13) ?? [];
  return (Number(utime) + Number(stime)) / 100; // ticks
}

test(
  'an open dashboard costs little, and its memory does not grow',
  async () => {
    const copy = copyWithTestService();
    writeFileSync(join(copy, 'dist/app/service.js'), service);
    const app = await startApp({
      entry: join(copy, 'dist/main.js'),
      env: { DASHBOARD: 'open', WEB_CONCURRENCY: '2' },
    });
    if (!('port' in app.address)) throw new Error('no port');
    const page = await (await browser.newContext({ viewport: { width: 1280, height: 900 } })).newPage();
    await page.goto(`http://localhost:${app.address.port}/dashboard`);
    for (const figure of ['a', 'live']) await isDrawn(page, figure, 20);
    await delay(5_000); // what a start costs is over

    const machine = await browser.newBrowserCDPSession();
    const session = await page.context().newCDPSession(page);
    await session.send('Performance.enable');
    const cost = async () => {
      const { processInfo } = await machine.send('SystemInfo.getProcessInfo');
      return {
        server: [app.pid, ...app.workers()].reduce((sum, pid) => sum + processorTime(pid), 0),
        browser: processInfo.reduce((sum, { cpuTime }) => sum + cpuTime, 0),
        seconds: performance.now() / 1_000,
      };
    };
    const heap = async () => {
      await session.send('HeapProfiler.collectGarbage');
      const { metrics } = await session.send('Performance.getMetrics');
      return metrics.find(({ name }) => name === 'JSHeapUsedSize')?.value ?? 0;
    };
    const before = await cost();
    const early = await heap();
    await delay(minutes * minute);
    const late = await heap();
    const after = await cost();
    const share = (of: 'server' | 'browser') => (after[of] - before[of]) / (after.seconds - before.seconds);
    const growth = late / early - 1;
    const percent = (part: number) => `${(100 * part).toFixed(1)} %`;
    process.stdout.write(
      `of a core: server ${percent(share('server'))}, browser ${percent(share('browser'))}; heap ${percent(growth)}\n`,
    );
    expect(share('server')).toBeLessThan(bars.server);
    expect(share('browser')).toBeLessThan(bars.browser);
    expect(growth).toBeLessThan(bars.growth);
  },
  (minutes + 3) * minute,
);
