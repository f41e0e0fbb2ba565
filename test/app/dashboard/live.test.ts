import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../../support/app.ts';
import { stopAll } from '../../support/processes.ts';
import { startRedis } from '../../support/redis.ts';
import { request, workerOf } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';
import { type Events, openEvents } from './events.ts';

afterEach(stopAll);

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);

test.each([['Redis'], ['the primary']])(
  'with the count in %s, all viewers at all workers see a visit to any worker',
  async (where) => {
    const env = where === 'Redis' ? { REDIS_URL: (await startRedis()).url } : {};
    const app = await startApp({ env: { ...env, WEB_CONCURRENCY: '2' } });
    let viewers: Events[] = [];
    do viewers.push(await openEvents(app.address, '/events'));
    while (new Set(viewers.map(workerOf)).size < 2);
    viewers = viewers.slice(-6);
    expect(viewers[0]?.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
    });
    const seen = viewers.map(({ find }) => find(({ data }) => data.hits === 1, 'the visit'));
    await request(app.address, '/');
    await Promise.all(seen);
    // Only the newest matters: visits that come together need not be seen one by one.
    const last = viewers.map(({ find }) => find(({ data }) => data.hits === 51, 'the last visit'));
    await Promise.all(upTo(50).map(() => request(app.address, '/')));
    await Promise.all(last);
  },
);

test('a stream ends by itself after 10 to 15 s', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1' } });
  const begin = performance.now();
  const { ended } = await openEvents(app.address, '/events');
  expect(await ended).toBe(true);
  const age = performance.now() - begin;
  expect(age).toBeGreaterThan(9_900);
  expect(age).toBeLessThan(16_000);
});

test.each(['SIGTERM', 'SIGHUP'] as const)(
  '%s with 20 viewers: their streams end, and so do the workers',
  async (signal) => {
    const app = await startApp({ env: { WEB_CONCURRENCY: '2', DASHBOARD: 'true' } });
    const paths = ['/events', '/dashboard/events'];
    const viewers = await Promise.all(upTo(20).map((i) => openEvents(app.address, paths[i % 2] ?? '')));
    const old = app.workers();
    app.kill(signal);
    if (signal === 'SIGHUP') await app.waitForLog(/^reloaded/);
    const begin = performance.now();
    expect(await Promise.all(viewers.map(({ ended }) => ended))).toEqual(upTo(20).map(() => true));
    expect(performance.now() - begin).toBeLessThan(4_000); // 2 s on a machine with nothing else to do
    if (signal === 'SIGTERM') {
      expect(await app.exited).toEqual({ code: 0, signal: null });
    } else {
      await waitFor(() => app.workers().every((pid) => !old.includes(pid)), 'the old workers to end', 5_000);
    }
  },
);

test('viewers see that Redis is away, and the number again on its return', async () => {
  const redis = await startRedis({ appendOnly: true });
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', REDIS_URL: redis.url } });
  await request(app.address, '/');
  const viewer = await openEvents(app.address, '/events');
  await viewer.find(({ data }) => data.hits === 1, 'the number');
  const away = viewer.find(({ event }) => event === 'away', 'the outage');
  await redis.kill();
  await away;
  await redis.start();
  const again = await openEvents(app.address, '/events');
  await again.find(({ data }) => data.hits === 1, 'the number again');
});

test('nobody who looks costs Redis nothing', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  const gets = async () =>
    /cmdstat_get:calls=(\d+)/.exec(String(await redis.command('INFO', 'commandstats')))?.[1];
  const viewer = await openEvents(app.address, '/events');
  await viewer.find(() => true, 'the number');
  viewer.close();
  await new Promise((resume) => setTimeout(resume, 500));
  const before = await gets();
  await new Promise((resume) => setTimeout(resume, 1_000));
  expect(await gets()).toBe(before);
});
