import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { connectTimeout } from '../../src/app/redis-store.ts';
import { retryBudget } from '../../src/server/retry.ts';
import { type App, startApp } from '../support/app.ts';
import { expectFlawless, startLightLoad } from '../support/load.ts';
import { startNginx } from '../support/nginx.ts';
import { atEnd, stopAll, temporaryDirectory } from '../support/processes.ts';
import { prepareRedis, type Redis, startRedis } from '../support/redis.ts';
import { request, workerOf } from '../support/requests.ts';
import { delay, waitFor } from '../support/wait.ts';
import { openLink } from './faults/link.ts';
import { judge, numberIn } from './visit.ts';

afterEach(stopAll);

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
const sorted = (numbers: (number | undefined)[]) => numbers.toSorted((a = 0, b = 0) => a - b);
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
  for (const answer of answers) expect(app.workers()).toContain(workerOf(answer));
  await app.waitForLog(/^the count is kept in this process and is lost at its exit/);
  await app.waitForLog(/^serving .* from 3 workers$/);
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
  const load = startLightLoad(app.address, 16);
  for (let i = 0; i < 2; i++) {
    await load.waitForAnswers(150);
    await redis.kill();
    await redis.start();
  }
  await load.waitForAnswers(200);
  const visits = await expectFlawless(app.address, load);
  expect(await redis.command('GET', 'visits')).toBe(String(visits));
});

test('behind nginx nothing but visits is counted, and no client can make up an id', async () => {
  const redis = await startRedis();
  const socketPath = join(temporaryDirectory(), 'app.sock');
  await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  const nginx = await startNginx(socketPath);
  for (const path of ['/favicon.svg', '/favicon.ico', '/robots.txt', '/livez', '/readyz', '/missing']) {
    await request(nginx, path);
  }
  await request(nginx, '/', { method: 'HEAD' });
  expect(await request(nginx, '/')).toMatchObject({ status: 200, body: "I've been seen 1 times.\n" });
  // An id that a client makes up can neither suppress a count nor ask for an old number.
  for (const number of [2, 3]) {
    const { body } = await request(nginx, '/', { headers: { 'X-Request-ID': 'e'.repeat(32) } });
    expect(numberIn(body)).toBe(number);
  }
});

test('a stop under load counts just the visits that it answers', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  const load = startLightLoad(app.address, 16);
  await load.waitForAnswers(100);
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 0, signal: null });
  const { history, ok } = await load.stop();
  expect(history.every(({ status = 200 }) => status === 200)).toBe(true); // the others were refused a connection
  expect(judge(history)).toEqual({ wrong: [], unacknowledged: 0 });
  expect(await redis.command('GET', 'visits')).toBe(String(ok));
});

test('a frozen Redis: visits are answered by 503 in good time, the app stays alive and recovers', async () => {
  const redis = await startRedis();
  const app = await startApp({
    env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url, TRUSTED_PROXIES: '127.0.0.1' },
  });
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
  expect(failure.err).toMatchObject({
    message: expect.stringContaining(`Redis at 127.0.0.1:${redis.port}: `),
  });
  expect(app.log().filter((line) => line.request_id === id)).toHaveLength(1);
  redis.thaw();
  await waitFor(async () => (await statusOf(app, '/readyz')) === 200, 'the app to be ready');
  expect(await statusOf(app, '/')).toBe(200);
});

test('a frozen Redis that is asked again and again is given up, too', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', REDIS_URL: redis.url } });
  await waitFor(async () => (await statusOf(app, '/readyz')) === 200, 'the app to be ready');
  redis.freeze();
  const asking = setInterval(() => statusOf(app, '/readyz').catch(() => {}), 100);
  atEnd(() => clearInterval(asking));
  await app.waitForLog(/^Redis is away/, { limit: 10 * connectTimeout }); // without it, about a minute
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
  const address = `127.0.0.1:${redis.port}`;
  const said = `Redis is away; trying again until it is back. Redis at ${address}: connect ECONNREFUSED ${address}`;
  expect(app.log().filter(({ msg }) => msg === said)).toHaveLength(2);
});

test('a visit that is under way when Redis returns is counted, not refused', async () => {
  const redis = await startRedis({ appendOnly: true });
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', REDIS_URL: redis.url } });
  expect(await statusOf(app, '/')).toBe(200);
  await redis.kill();
  const visit = request(app.address);
  await app.waitForLog(/^Redis is away/, { limit: 10 * connectTimeout }); // without it, about a minute
  await redis.start();
  expect(await visit).toMatchObject({ status: 200, body: "I've been seen 2 times.\n" });
});

test('a host name that is looked up slowly: the app answers in time meanwhile, and is found in the end', async () => {
  const redis = await startRedis();
  const link = await openLink(redis.port);
  atEnd(link.close);
  const lookup = 5 * connectTimeout;
  const app = await startApp({
    env: {
      WEB_CONCURRENCY: '1',
      REDIS_URL: link.url.replace('127.0.0.1', 'redis.test'),
      LOOKUP_DELAY: String(lookup),
    },
    nodeArguments: ['--require', join(__dirname, 'faults/lookup.cjs')],
  });
  for (const event of ['its start', 'a connection that was lost']) {
    const begin = performance.now();
    expect((await request(app.address)).status).toBe(503);
    expect(await statusOf(app, '/livez')).toBe(200);
    expect(performance.now() - begin).toBeLessThan(4 * retryBudget); // once it is meant to be
    await waitFor(async () => (await statusOf(app, '/readyz')) === 200, `Redis to be found after ${event}`);
    expect(await statusOf(app, '/')).toBe(200);
    await delay(1_000); // by then the answer of the look-up is used no more
    link.reset();
    await waitFor(async () => (await statusOf(app, '/readyz')) === 503, 'the loss to be noticed');
  }
  const lookups = app.output().match(/^look-up of redis.test$/gm) ?? [];
  expect(lookups.length).toBeLessThanOrEqual(3); // one of the start, one or two of what came after it
});
