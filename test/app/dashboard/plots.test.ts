import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { type App, startApp } from '../../support/app.ts';
import { startNginx } from '../../support/nginx.ts';
import { stopAll, temporaryDirectory } from '../../support/processes.ts';
import { startRedis } from '../../support/redis.ts';
import { request, workerOf } from '../../support/requests.ts';
import { delay, waitFor } from '../../support/wait.ts';
import { openEvents } from './events.ts';

afterEach(stopAll);

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
const env = { WEB_CONCURRENCY: '2', DASHBOARD: 'true' };

interface Points {
  times: number[];
  lines: Record<string, (number | null)[]>;
}

async function pointsOf(app: Pick<App, 'address'>, plot: string): Promise<Points> {
  return JSON.parse((await request(app.address, `/dashboard/${plot}.json`)).body);
}
const sum = (values: (number | null)[] = []) =>
  values.reduce<number>((total, value) => total + (value ?? 0), 0);

test('switched off, there are no plots, no data and no stream', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1' } });
  for (const path of ['/dashboard', '/dashboard/rate.json', '/dashboard/rate.csv', '/dashboard/events']) {
    expect([path, (await request(app.address, path)).status]).toEqual([path, 404]);
  }
});

describe.each([['Redis'], ['the primary']])('with the history in %s', (where) => {
  const start = async (more = {}) =>
    startApp({ env: { ...env, ...(where === 'Redis' && { REDIS_URL: (await startRedis()).url }), ...more } });

  test('every visit is in the plots, whichever worker is asked', async () => {
    const app = await start();
    await delay(1_100); // each worker has noted the count of the hour
    await Promise.all(upTo(40).map(() => request(app.address, '/')));
    const asked = new Set<number>();
    await waitFor(async () => {
      const answer = await request(app.address, '/dashboard/rate.json');
      if (sum(JSON.parse(answer.body).lines.visits) !== 40) return false;
      return asked.add(workerOf(answer)).size === 2;
    }, 'all visits at both workers');
    expect(sum((await pointsOf(app, 'visits')).lines.visits)).toBe(40);
    expect(Object.keys((await pointsOf(app, 'share')).lines).length).toBe(2);
    const { lines } = await pointsOf(app, 'latency');
    const p50 = lines.p50?.findLast((value) => value !== null) ?? 0;
    expect(p50).toBeGreaterThan(0);
    expect(lines.p99?.findLast((value) => value !== null)).toBeGreaterThanOrEqual(p50);
  });

  test('a reload with viewers: no second is missing, and a stream goes on where it was', async () => {
    const app = await start();
    const first = await openEvents(app.address, '/dashboard/events');
    await first.find(({ data }) => data.plots.rate?.times.length > 0, 'points');
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/);
    expect(await first.ended).toBe(true);
    const seen = Number(first.frames.at(-1)?.id);
    const second = await openEvents(app.address, '/dashboard/events', { 'Last-Event-ID': String(seen) });
    const { data } = await waitFor(() => second.frames[0], 'the first frame');
    const times: number[] = data.plots.rate.times;
    expect(times[0]).toBeGreaterThan(seen - 5);
    expect(times[0]).toBeLessThanOrEqual(seen + 1);
    const marked = await second.find(
      () =>
        second.frames.some((frame) =>
          frame.data.marks?.some(({ type }: { type: string }) => type === 'reloaded'),
        ),
      'the mark',
    );
    expect(marked).toBeDefined();
    const all = await pointsOf(app, 'rate');
    expect(all.times).toEqual(upTo(all.times.length).map((i) => (all.times[0] ?? 0) + i - 1));
    expect(all.lines.visits).not.toContain(null);
  });
});

test('a stream that is asked to go on after what is no second begins with all there is', async () => {
  const app = await startApp({ env: { ...env, WEB_CONCURRENCY: '1' } });
  await waitFor(async () => (await pointsOf(app, 'rate')).times.length > 0, 'a point');
  for (const after of ['-1', 'x', '1e99', '99999999999999999999', '1-0']) {
    const stream = await openEvents(app.address, '/dashboard/events', { 'Last-Event-ID': after });
    expect((await waitFor(() => stream.frames[0], 'a frame')).data.plots.rate.times.length).toBeGreaterThan(
      0,
    );
    stream.close();
  }
});

test('with Redis the history outlives the service', async () => {
  const redis = await startRedis();
  const settings = { ...env, REDIS_URL: redis.url };
  const before = await startApp({ env: settings });
  await Promise.all(upTo(10).map(() => request(before.address, '/')));
  before.kill('SIGTERM');
  expect(await before.exited).toEqual({ code: 0, signal: null });
  const after = await startApp({ env: settings });
  await waitFor(async () => sum((await pointsOf(after, 'rate')).lines.visits) === 10, 'the visits before');
});

test('the history of an outage of Redis is written on its return, and plots that cannot be read say so', async () => {
  const redis = await startRedis({ appendOnly: true });
  const app = await startApp({ env: { ...env, REDIS_URL: redis.url } });
  await waitFor(async () => (await pointsOf(app, 'rate')).times.length > 1, 'points');
  const stream = await openEvents(app.address, '/dashboard/events');
  const away = stream.find(({ event }) => event === 'away', 'the outage');
  await redis.kill();
  await away;
  expect((await request(app.address, '/dashboard/rate.json')).status).toBe(503);
  await redis.start();
  const { lines, times } = await waitFor(async () => {
    const points = await pointsOf(app, 'rate');
    return points.times.length > 4 && !points.lines.visits?.includes(null) && points;
  }, 'the history without a gap');
  expect(lines.visits?.length).toBe(times.length);
});

test('a second in which every worker was too busy to report is reported later', async () => {
  const app = await startApp({ env });
  await waitFor(async () => (await pointsOf(app, 'rate')).times.length > 1, 'points');
  for (const pid of app.workers()) process.kill(pid, 'SIGSTOP');
  await delay(2_500);
  for (const pid of app.workers()) process.kill(pid, 'SIGCONT');
  const { lines, times } = await waitFor(async () => {
    const points = await pointsOf(app, 'rate');
    return points.times.length > 6 && points;
  }, 'points of later seconds');
  expect(lines.visits).toHaveLength(times.length);
  expect(lines.visits).not.toContain(null);
});

test('a worker that is killed is a mark in the plots', async () => {
  const app = await startApp({ env });
  const stream = await openEvents(app.address, '/dashboard/events');
  const victim = app.workers().find((pid) => pid !== workerOf(stream)) as number;
  const marked = stream.find(
    ({ data }) =>
      data.marks?.some(
        (mark: { type: string; worker: number }) => mark.type === 'died' && mark.worker === victim,
      ),
    'the mark',
  );
  process.kill(victim, 'SIGKILL');
  await marked;
});

test('history costs each worker one command a second, and a visit none', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { ...env, REDIS_URL: redis.url } });
  const commands = async () =>
    [...String(await redis.command('INFO', 'commandstats')).matchAll(/cmdstat_(\w+):calls=(\d+)/g)]
      .filter(([, name]) => /^(xadd|xrange|get)$/.test(name ?? ''))
      .reduce((total, [, , calls]) => total + Number(calls), 0);
  await delay(1_500);
  const before = await commands();
  const begin = performance.now();
  await Promise.all(upTo(100).map(() => request(app.address, '/')));
  await delay(2_000);
  const seconds = Math.ceil((performance.now() - begin) / 1_000);
  // Of each of the two workers; a second may end just before the first look and just after the last one.
  expect((await commands()) - before).toBeLessThanOrEqual(2 * (seconds + 2));
  await waitFor(async () => sum((await pointsOf(app, 'rate')).lines.visits) === 100, 'the visits');
});

test('CSV has a row for each point', async () => {
  const app = await startApp({ env });
  await waitFor(async () => (await pointsOf(app, 'rate')).times.length > 1, 'points');
  const { headers, body } = await request(app.address, '/dashboard/rate.csv');
  expect(headers['content-disposition']).toBe('attachment; filename="rate.csv"');
  const [head, ...rows] = body.trimEnd().split('\r\n');
  expect(head).toBe('"time","visits"');
  expect(rows.length).toBeGreaterThan(1);
  for (const row of rows) expect(row).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+$/);
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

test('uPlot is the one in devDependencies, under a name that has its hash', () => {
  const folder = 'src/app/static/dashboard/vendor';
  const page = readFileSync('src/app/dashboard/page.ts', 'utf8');
  for (const original of ['uPlot.iife.min.js', 'uPlot.min.css']) {
    const content = readFileSync(`node_modules/uplot/dist/${original}`);
    const hash = createHash('sha256').update(content).digest('hex').slice(0, 8);
    const name = original.replace(/^uPlot(\.iife)?\.min/, `uPlot-${hash}`);
    expect(readdirSync(folder)).toContain(name);
    expect(readFileSync(join(folder, name)).equals(content)).toBe(true);
    expect(page).toContain(`dashboard/vendor/${name}"`);
  }
  expect(readdirSync(folder)).toHaveLength(2);
});
