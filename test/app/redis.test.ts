import { afterEach, expect, test } from '@jest/globals';
import { retryBudget } from '../../src/counter.ts';
import {
  type App,
  delay,
  numberIn,
  prepareRedis,
  type Redis,
  request,
  startApp,
  startLoad,
  startRedis,
  stopAll,
  waitFor,
} from '../processes.ts';

afterEach(stopAll);

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
const sorted = (numbers: number[]) => numbers.toSorted((a, b) => a - b);
const statusOf = async (app: App, path: string) => (await request(app.address, path)).status;

test('without Redis, 500 parallel visits to three workers get exactly 1 to 500, and the log says that they are lost', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '3' } });
  const answers = await Promise.all(
    upTo(500).map(async (i) => {
      const headers = { Accept: 'application/json', 'X-Request-ID': String(i).padStart(32, '0') };
      for (;;) {
        const answer = await request(app.address, '/', { headers });
        if (answer.status !== 503) return answer; // too busy a machine: the same visit again
      }
    }),
  );
  expect(sorted(answers.map(({ body }) => JSON.parse(body).hits))).toEqual(upTo(500));
  const workers = new Set(answers.map(({ headers }) => Number(String(headers['x-worker']).split(':')[1])));
  for (const pid of workers) expect(app.workers()).toContain(pid);
  await app.waitForLog(
    /^serving .* from 3 workers; the count is kept in this process and is lost at its exit/,
  );
});

async function commandsOf(redis: Redis): Promise<number> {
  const statistics = String(await redis.command('INFO', 'commandstats'));
  return [...statistics.matchAll(/^cmdstat_(?:evalsha|eval):calls=(\d+)/gm)].reduce(
    (sum, [, calls]) => sum + Number(calls),
    0,
  );
}

test('64 visits that wait together need at most 0.2 commands to Redis each', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  expect(await statusOf(app, '/')).toBe(200);
  const before = await commandsOf(redis);
  redis.freeze();
  const answers = upTo(64).map(() => request(app.address));
  await delay(500); // they arrive, and wait
  redis.thaw();
  const numbers = (await Promise.all(answers)).map(({ body }) => numberIn(body));
  expect(sorted(numbers)).toEqual(upTo(65).slice(1));
  expect(((await commandsOf(redis)) - before) / 64).toBeLessThanOrEqual(0.2);
});

test('Redis killed and restarted in mid-load: every visit is answered and counted once', async () => {
  const redis = await startRedis({ appendOnly: true });
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  const load = startLoad(app.address, 16);
  for (const visits of [150, 300]) {
    await waitFor(() => load.tally.numbers.length > visits, `${visits} visits`);
    await redis.kill();
    await redis.start();
  }
  await waitFor(() => load.tally.numbers.length > 900, '900 visits');
  const { numbers, statuses, errors } = await load.stop();
  expect({ errors, statuses }).toEqual({ errors: [], statuses: { 200: numbers.length } });
  expect(sorted(numbers)).toEqual(upTo(numbers.length));
  expect(await redis.command('GET', 'visits')).toBe(String(numbers.length));
});

test('a frozen Redis: visits are answered by 503 in good time, the app stays alive and recovers', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  expect(await statusOf(app, '/')).toBe(200);
  redis.freeze();
  const id = 'c'.repeat(32);
  const begin = performance.now();
  const [visit, live, ready] = await Promise.all([
    request(app.address, '/', { headers: { 'X-Request-ID': id } }),
    request(app.address, '/livez'),
    request(app.address, '/readyz'),
  ]);
  expect(performance.now() - begin).toBeLessThan(4 * retryBudget); // once it is meant to be
  expect(visit).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
  expect({ live: live.status, ready: ready.status }).toEqual({ live: 200, ready: 503 });
  const failure = await waitFor(
    () => app.log().filter((line) => line.request_id === id)[0],
    'the log of the failure',
  );
  expect(failure).toMatchObject({ level: 'error', msg: 'request failed', method: 'GET', url: '/' });
  expect(app.log().filter((line) => line.request_id === id)).toHaveLength(1);
  redis.thaw();
  await waitFor(async () => (await statusOf(app, '/readyz')) === 200, 'the app to be ready');
  expect(await statusOf(app, '/')).toBe(200);
});

test('an app that finds no Redis is alive, not ready, and counts on its return', async () => {
  const redis = await prepareRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  expect(await statusOf(app, '/livez')).toBe(200);
  expect(await statusOf(app, '/readyz')).toBe(503);
  expect(await request(app.address)).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
  await redis.start();
  await waitFor(async () => (await statusOf(app, '/')) === 200, 'a visit that is counted');
  await waitFor(async () => (await statusOf(app, '/readyz')) === 200, 'the app to be ready');
  // Said once by each worker, however many tries there were.
  await waitFor(
    () => app.log().filter(({ msg }) => msg === 'Redis is back').length === 2,
    'both workers to say so',
  );
  expect(app.log().filter(({ msg }) => msg.startsWith('Redis is away'))).toHaveLength(2);
});

test('a visit that is under way when Redis returns is counted, not refused', async () => {
  const redis = await startRedis({ appendOnly: true });
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', REDIS_URL: redis.url } });
  expect(await statusOf(app, '/')).toBe(200);
  await redis.kill();
  const visit = request(app.address);
  await app.waitForLog(/^Redis is away/);
  await redis.start();
  expect(await visit).toMatchObject({ status: 200, body: "I've been seen 2 times.\n" });
});
