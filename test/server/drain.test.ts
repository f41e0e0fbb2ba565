import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import {
  type App,
  isRunning,
  numberIn,
  request,
  startApp,
  startLoad,
  startRedis,
  stopAll,
  temporaryDirectory,
  waitFor,
} from '../processes.ts';

afterEach(stopAll);

const graceful = { code: 0, signal: null };

/** A connection of a client that types slowly. */
async function open(app: App): Promise<{ socket: Socket; received(): string; ended: Promise<unknown> }> {
  const { address } = app;
  const socket =
    'port' in address
      ? connect({ host: '127.0.0.1', port: address.port })
      : connect({ path: address.socketPath });
  let text = '';
  socket.setEncoding('utf8').on('data', (part) => {
    text += part;
  });
  socket.on('error', () => {}); // 'close' follows
  const ended = once(socket, 'close');
  await once(socket, 'connect');
  return { socket, received: () => text, ended };
}

/** Accepted in their order: when a later connection is answered, the worker has the earlier ones. */
const settle = (app: App) => request(app.address, '/livez');

const refused = (app: App) =>
  waitFor(
    () =>
      request(app.address, '/livez').then(
        () => false,
        () => true,
      ),
    'new connections to be refused',
  );

const where = {
  'a TCP port': () => undefined,
  'a unix socket': () => join(temporaryDirectory(), 'app.sock'),
};

describe.each(Object.entries(where))('on %s', (_, listen) => {
  const start = (env: Record<string, string>, group = false) =>
    startApp({ env: { WEB_CONCURRENCY: '1', ...env, LISTEN: listen() ?? '' }, group });

  test('half a request, SIGTERM, the other half: it is answered, and the exit code is 0', async () => {
    const app = await start({});
    const idle = await open(app);
    idle.socket.write('GET /livez HTTP/1.1\r\nHost: here\r\n\r\n');
    await waitFor(() => idle.received().endsWith('alive\n'), 'the answer');
    const first = await open(app);
    first.socket.write('GET / HTTP/1.1\r\nHo');
    const later = await open(app);
    later.socket.write('GET /livez HTTP/1.1\r\nHost: here\r\n\r\n');
    await waitFor(() => later.received().endsWith('alive\n'), 'the answer');
    later.socket.write('GET / HTTP/1.1\r\nHo');
    await settle(app);
    app.kill('SIGTERM');
    await idle.ended; // the time for requests that were on their way is over: half a request is waited for
    first.socket.write('st: here\r\n\r\n');
    later.socket.write('st: here\r\n\r\n');
    await Promise.all([first.ended, later.ended]);
    for (const { received } of [first, later]) {
      expect(received()).toMatch(
        /HTTP\/1\.1 200 OK[\s\S]*Connection: close[\s\S]*I've been seen \d times\.\n$/,
      );
    }
    expect(await app.exited).toEqual(graceful);
  });
});

test('every visit in flight is answered when SIGTERM comes, twice', async () => {
  const redis = await startRedis();
  const path = join(temporaryDirectory(), 'app.sock');
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url, LISTEN: path } });
  const agent = new Agent({ keepAlive: true });
  await Promise.all(Array.from({ length: 20 }, () => request(app.address, '/livez', { agent })));
  redis.freeze();
  const visits = Promise.all(Array.from({ length: 20 }, () => request(app.address, '/', { agent })));
  await settle(app);
  app.kill('SIGTERM');
  await refused(app);
  app.kill('SIGTERM');
  redis.thaw();
  const answers = await visits;
  expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200));
  expect(new Set(answers.map(({ body }) => numberIn(body))).size).toBe(20);
  expect(await app.exited).toEqual(graceful);
});

test('Ctrl-C, which reaches primary and workers, twice: the visit in flight is answered, and the exit code is 0', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url }, group: true });
  redis.freeze();
  const visit = request(app.address);
  await settle(app);
  process.kill(-app.pid, 'SIGINT');
  await refused(app);
  process.kill(-app.pid, 'SIGINT');
  redis.thaw();
  expect(await visit).toMatchObject({ status: 200 });
  expect(await app.exited).toEqual(graceful);
});

test('connections that are idle or were never used do not hold a stop up', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', GRACEFUL_TIMEOUT: '10' } });
  const unused = [await open(app), await open(app)];
  const idle = await open(app);
  idle.socket.write('GET /livez HTTP/1.1\r\nHost: here\r\n\r\n');
  await waitFor(() => idle.received().endsWith('alive\n'), 'the answer');
  app.kill('SIGTERM');
  expect(await app.exited).toEqual(graceful);
  await Promise.all([idle, ...unused].map(({ ended }) => ended));
});

test('while it drains, an open connection is told that the service is not ready', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1' } });
  const client = await open(app);
  client.socket.write('GET /livez HTTP/1.1\r\nHost: here\r\n\r\n');
  await waitFor(() => client.received().endsWith('alive\n'), 'the answer');
  app.kill('SIGTERM');
  await refused(app);
  client.socket.write('GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n');
  await client.ended;
  expect(client.received()).toMatch(/503 Service Unavailable[\s\S]*stopping$/);
  expect(await app.exited).toEqual(graceful);
});

test('a drain that takes longer than GRACEFUL_TIMEOUT ends in SIGKILL, an exit code and a line that says so', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', GRACEFUL_TIMEOUT: '1' } });
  const slow = await open(app);
  slow.socket.write('GET / HTTP/1.1\r\nHo');
  await settle(app);
  const workers = app.workers();
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 1, signal: null });
  expect(app.log().filter(({ msg }) => /did not finish within 1 s and is killed/.test(msg))).toHaveLength(1);
  expect(workers.filter(isRunning)).toEqual([]);
});

test('a worker that is stuck when SIGTERM comes leaves no orphan', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', GRACEFUL_TIMEOUT: '1', WORKER_TIMEOUT: '0' } });
  const workers = app.workers();
  process.kill(workers[0] as number, 'SIGSTOP');
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 1, signal: null });
  expect(workers.filter(isRunning)).toEqual([]);
});

test('workers whose primary is killed finish what they have begun and end', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  const workers = app.workers();
  expect(workers).toHaveLength(2);
  redis.freeze();
  const visits = Array.from({ length: 4 }, () => request(app.address));
  await settle(app);
  app.kill('SIGKILL');
  await refused(app);
  redis.thaw();
  for (const visit of visits) expect(await visit).toMatchObject({ status: 200 });
  await waitFor(() => !workers.some(isRunning), 'the workers to end');
});

test('a stop under load counts just the visits that it answers', async () => {
  const redis = await startRedis();
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
  const load = startLoad(app.address, 16);
  await waitFor(() => load.tally.numbers.length > 100, '100 visits');
  app.kill('SIGTERM');
  expect(await app.exited).toEqual(graceful);
  const { numbers, statuses } = await load.stop();
  expect(Object.keys(statuses)).toEqual(['200']);
  expect(await redis.command('GET', 'visits')).toBe(String(numbers.length));
});
