/** The counter's own figures, at real workers. */
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { type App, startApp } from '../../support/app.ts';
import { openEvents } from '../../support/events.ts';
import { startNginx } from '../../support/nginx.ts';
import { stopAll, temporaryDirectory } from '../../support/processes.ts';
import { startRedis } from '../../support/redis.ts';
import { request, workerOf } from '../../support/requests.ts';
import { delay, waitFor } from '../../support/wait.ts';

afterEach(stopAll);

const env = { WEB_CONCURRENCY: '2', DASHBOARD: 'open' };
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const sum = (numbers: unknown[] = []) => numbers.reduce<number>((total, one) => total + Number(one), 0);

const visit = (app: App, times: number) => Promise.all(upTo(times).map(() => request(app.address, '/')));

// biome-ignore lint/suspicious/noExplicitAny: JSON
async function columnsOf(app: App, figure: string): Promise<Record<string, any[]>> {
  return JSON.parse((await request(app.address, `/dashboard/figures/${figure}.json`)).body).columns;
}

describe.each([['Redis'], ['the primary']])('with the history in %s', (where) => {
  const start = async () =>
    startApp({ env: { ...env, ...(where === 'Redis' && { REDIS_URL: (await startRedis()).url }) } });

  test('every visit is in the figures, whichever worker is asked', async () => {
    const app = await start();
    await delay(1_100); // each worker has noted the count of the hour
    await visit(app, 40);
    const asked = new Set<number>();
    await waitFor(async () => {
      const answer = await request(app.address, '/dashboard/figures/rate.json');
      if (sum(JSON.parse(answer.body).columns.visits) !== 40) return false;
      return asked.add(workerOf(answer)).size === 2;
    }, 'all visits at both workers');
    expect(sum((await columnsOf(app, 'visits')).visits)).toBe(40);
    expect(new Set((await columnsOf(app, 'share')).worker).size).toBe(2);
    const latency = await columnsOf(app, 'latency');
    expect(sum(latency.visits)).toBe(40);
    for (const within of latency.within ?? []) expect(within).toMatch(/^([\d.]+ ms|longer)$/);
    const { of, milliseconds = [] } = await columnsOf(app, 'store');
    expect(new Set(of)).toEqual(new Set(['half within', '99 of 100 within']));
    expect(Math.min(...milliseconds)).toBeGreaterThan(0);
    const { body } = await request(app.address, '/dashboard/plots.json');
    expect(JSON.parse(body).instance).toBe(where === 'Redis' ? 'all' : 'this');
  });

  test('a reload with viewers: each stream ends, the version stays, and no second is missing', async () => {
    const app = await start();
    const first = await openEvents(app.address, '/dashboard/events');
    await first.find(({ data }) => data.live?.rate.time?.length > 0, 'rows');
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/);
    expect(await first.ended).toBe(true);
    const second = await openEvents(app.address, '/dashboard/events');
    await second.find(({ data }) => data.live !== undefined, 'a frame');
    expect(second.frames[0]).toEqual(first.frames[0]);
    const { time = [] } = await columnsOf(app, 'rate');
    expect(time).toEqual(upTo(time.length).map((i) => time[0] + (i - 1) * 1_000));
  });
});

test('with Redis the history outlives the service', async () => {
  const settings = { ...env, REDIS_URL: (await startRedis()).url };
  const before = await startApp({ env: settings });
  await visit(before, 10);
  before.kill('SIGTERM');
  expect(await before.exited).toEqual({ code: 0, signal: null });
  const after = await startApp({ env: settings });
  await waitFor(async () => sum((await columnsOf(after, 'rate')).visits) === 10, 'the visits before');
});

test('the history of an outage of Redis is written on its return', async () => {
  const redis = await startRedis({ appendOnly: true });
  const app = await startApp({ env: { ...env, REDIS_URL: redis.url } });
  await waitFor(async () => ((await columnsOf(app, 'rate')).time?.length ?? 0) > 1, 'rows');
  const stream = await openEvents(app.address, '/dashboard/events');
  const away = stream.find(({ event }) => event === 'away', 'the outage');
  await redis.kill();
  await away;
  await waitFor(
    async () => (await request(app.address, '/dashboard/figures/rate.json')).status === 503,
    'the figure to say so',
  );
  await redis.start();
  await waitFor(async () => {
    const { time = [] } = await columnsOf(app, 'rate');
    return time.length > 4 && time.at(-1) - time[0] === (time.length - 1) * 1_000;
  }, 'the history without a gap');
});

test('a second in which every worker was too busy to report is reported later', async () => {
  const app = await startApp({ env });
  await waitFor(async () => ((await columnsOf(app, 'rate')).time?.length ?? 0) > 1, 'rows');
  for (const pid of app.workers()) process.kill(pid, 'SIGSTOP');
  await delay(2_500);
  for (const pid of app.workers()) process.kill(pid, 'SIGCONT');
  const time = await waitFor(async () => {
    const { time = [] } = await columnsOf(app, 'rate');
    return time.length > 6 && time;
  }, 'rows of later seconds');
  expect(time.at(-1) - time[0]).toBe((time.length - 1) * 1_000);
});

test('the history costs each worker one command a second, and a visit none', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { ...env, REDIS_URL: redis.url } });
  const commands = async () =>
    [...String(await redis.command('INFO', 'commandstats')).matchAll(/cmdstat_(\w+):calls=(\d+)/g)]
      .filter(([, name]) => /^(xadd|xrange|get)$/.test(name ?? ''))
      .reduce((total, [, , calls]) => total + Number(calls), 0);
  await delay(1_500);
  const before = await commands();
  const begin = performance.now();
  await visit(app, 100);
  await delay(2_000);
  const seconds = Math.ceil((performance.now() - begin) / 1_000);
  // Of each of the two workers; a second may end just before the first look and just after the last one.
  expect((await commands()) - before).toBeLessThanOrEqual(2 * (seconds + 2));
});

test('behind nginx, events arrive as they are sent, and nginx ends with 20 open streams', async () => {
  const socketPath = join(temporaryDirectory(), 'app.sock');
  await startApp({ env: { ...env, LISTEN: socketPath } });
  const nginx = await startNginx(socketPath);
  const streams = await Promise.all(upTo(20).map(() => openEvents(nginx, '/dashboard/events')));
  await Promise.all(streams.map(({ find }) => find(() => true, 'a frame', 5_000)));
  const begin = performance.now();
  nginx.kill('SIGQUIT');
  expect(await nginx.exited).toMatchObject({ code: 0 });
  expect(performance.now() - begin).toBeLessThan(16_000);
  expect(await Promise.all(streams.map(({ ended }) => ended))).toEqual(upTo(20).map(() => true));
});

test('the number on the page: the newest, to all who look', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2' } });
  const viewers = await Promise.all(upTo(4).map(() => openEvents(app.address, '/events')));
  await visit(app, 7);
  for (const { find } of viewers) await find(({ data }) => data.hits === 7, 'the newest number');
});
