import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from '@jest/globals';
import { type App, type AppOptions, startApp } from '../support/app.ts';
import { startLightLoad } from '../support/load.ts';
import { isRunning, stopAll, temporaryDirectory } from '../support/processes.ts';
import { request } from '../support/requests.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { waitFor } from '../support/wait.ts';

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

/** A connection on which one request was answered; it is kept. */
async function openIdle(app: App) {
  const client = await open(app);
  client.socket.write('GET /livez HTTP/1.1\r\nHost: here\r\n\r\n');
  await waitFor(() => client.received().endsWith('alive\n'), 'the answer');
  return client;
}

/** A client that receives a stream of events. */
async function openStream(app: App) {
  const client = await open(app);
  client.socket.write('GET /stream HTTP/1.1\r\nHost: here\r\n\r\n');
  await waitFor(() => client.received().includes('data: first'), 'the first event');
  return client;
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

/** The server on the tests' own service. */
const startTestService = (options: AppOptions) =>
  startApp({ ...options, entry: join(copyWithTestService(), 'dist/main.js') });

/** Requests that are answered when they are released, and not before. */
function createHold() {
  const file = join(temporaryDirectory(), 'release');
  return { path: `/held?until=${encodeURIComponent(file)}`, release: () => writeFileSync(file, '') };
}

const linesOf = (app: App, message: RegExp) => app.log().filter(({ msg }) => message.test(msg));

const where = {
  'a TCP port': () => undefined,
  'a unix socket': () => join(temporaryDirectory(), 'app.sock'),
};

describe.each(Object.entries(where))('on %s', (_, listen) => {
  test('half a request, SIGTERM, the other half: it is answered, and what is idle or was never used ends', async () => {
    const app = await startApp({ env: { WEB_CONCURRENCY: '1', LISTEN: listen() ?? '' } });
    const unused = await open(app);
    const idle = await openIdle(app);
    const first = await open(app);
    first.socket.write('GET /livez HTTP/1.1\r\nHo');
    const later = await openIdle(app);
    later.socket.write('GET /livez HTTP/1.1\r\nHo');
    await settle(app);
    app.kill('SIGTERM');
    await Promise.all([unused.ended, idle.ended]); // the time for requests that were on their way is over: half a request is waited for
    first.socket.write('st: here\r\n\r\n');
    later.socket.write('st: here\r\n\r\n');
    await Promise.all([first.ended, later.ended]);
    for (const { received } of [first, later]) {
      expect(received()).toMatch(/HTTP\/1\.1 200 OK[\s\S]*Connection: close[\s\S]*alive\n$/);
    }
    expect(await app.exited).toEqual(graceful);
  });
});

test('every request in flight is answered when SIGTERM comes, twice, and the service is closed after the last', async () => {
  const app = await startTestService({
    env: { WEB_CONCURRENCY: '2', LISTEN: join(temporaryDirectory(), 'app.sock') },
  });
  const { path, release } = createHold();
  const agent = new Agent({ keepAlive: true });
  await Promise.all(Array.from({ length: 20 }, () => request(app.address, '/livez', { agent })));
  const answers = Promise.all(Array.from({ length: 20 }, () => request(app.address, path, { agent })));
  await settle(app);
  app.kill('SIGTERM');
  await refused(app);
  app.kill('SIGTERM');
  expect(linesOf(app, /^service closed/).length).toBeLessThan(2); // on a busy machine one worker may have taken all
  release();
  expect((await answers).map(({ status }) => status)).toEqual(Array(20).fill(200));
  expect(await app.exited).toEqual(graceful);
  expect(linesOf(app, /^service drains/)).toHaveLength(2);
  expect(linesOf(app, /^service closed/)).toMatchObject([{ in_flight: 0 }, { in_flight: 0 }]);
});

test('what changes something is answered, too, when SIGTERM comes in the middle of it', async () => {
  const app = await startTestService({ env: { WEB_CONCURRENCY: '1' } });
  const client = await open(app);
  client.socket.write('POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nfirst');
  await settle(app);
  app.kill('SIGTERM');
  await refused(app);
  client.socket.write('other');
  await client.ended;
  expect(client.received()).toMatch(/^HTTP\/1\.1 200 OK[\s\S]*firstother$/);
  expect(await app.exited).toEqual(graceful);
});

test('Ctrl-C and SIGTERM, which reach primary and workers: the request in flight is answered, and the exit code is 0', async () => {
  const app = await startTestService({ env: { WEB_CONCURRENCY: '2' }, group: true });
  const { path, release } = createHold();
  const answer = request(app.address, path);
  await settle(app);
  process.kill(-app.pid, 'SIGINT');
  await refused(app);
  process.kill(-app.pid, 'SIGTERM');
  release();
  expect(await answer).toMatchObject({ status: 200 });
  expect(await app.exited).toEqual(graceful);
});

test('while it drains, an open connection learns that the service is not ready', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1' } });
  const client = await openIdle(app);
  app.kill('SIGTERM');
  await refused(app);
  client.socket.write('GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n');
  await client.ended;
  expect(client.received()).toMatch(/503 Service Unavailable[\s\S]*stopping$/);
  expect(await app.exited).toEqual(graceful);
});

describe('an open stream of events', () => {
  const complete = /^HTTP\/1\.1 200 OK[\s\S]*data: first[\s\S]*data: last\n\n\r\n0\r\n\r\n$/;
  const inTime = (app: App) => expect(linesOf(app, /did not finish/)).toEqual([]);

  test('learns of a stop and ends, and the exit code is 0', async () => {
    const app = await startTestService({ env: { WEB_CONCURRENCY: '2' } });
    const streams = await Promise.all(Array.from({ length: 6 }, () => openStream(app)));
    app.kill('SIGTERM');
    expect(await app.exited).toEqual(graceful);
    inTime(app);
    for (const { received } of streams) expect(received()).toMatch(complete);
    expect(linesOf(app, /^service closed/)).toMatchObject([{ in_flight: 0 }, { in_flight: 0 }]);
  });

  test('ends when its worker is replaced by a reload, and the worker with it', async () => {
    const app = await startTestService({ env: { WEB_CONCURRENCY: '1' } });
    const before = app.workers();
    const stream = await openStream(app);
    app.kill('SIGHUP');
    await stream.ended;
    await waitFor(() => !before.some(isRunning), 'the old worker to end', 15_000); // killed after 20 s
    inTime(app);
    expect(stream.received()).toMatch(complete);
    expect(await request(app.address, '/')).toMatchObject({ status: 200 });
  });

  test('ends when its worker has served MAX_REQUESTS, and the worker with it', async () => {
    const app = await startTestService({ env: { WEB_CONCURRENCY: '1', MAX_REQUESTS: '3' } });
    const before = app.workers();
    const stream = await openStream(app);
    await request(app.address, '/');
    await request(app.address, '/');
    await stream.ended;
    await waitFor(() => !before.some(isRunning), 'the old worker to end', 15_000);
    inTime(app);
    expect(stream.received()).toMatch(complete);
  });
});

test('a drain that takes longer than GRACEFUL_TIMEOUT ends in SIGKILL, an exit code and a line that says so', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', GRACEFUL_TIMEOUT: '1' } });
  const slow = await open(app);
  slow.socket.write('GET / HTTP/1.1\r\nHo');
  await settle(app);
  const workers = app.workers();
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 1, signal: null });
  expect(linesOf(app, /did not finish within 1 s and is killed/)).toHaveLength(1);
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
  const app = await startTestService({ env: { WEB_CONCURRENCY: '2' } });
  const workers = app.workers();
  expect(workers).toHaveLength(2);
  const { path, release } = createHold();
  const answers = Array.from({ length: 4 }, () => request(app.address, path));
  await settle(app);
  app.kill('SIGKILL');
  await refused(app);
  release();
  for (const answer of answers) expect(await answer).toMatchObject({ status: 200 });
  await waitFor(() => !workers.some(isRunning), 'the workers to end');
});

test('a stop under load: whatever reached the service is answered', async () => {
  const app = await startTestService({ env: { WEB_CONCURRENCY: '2' } });
  const load = startLightLoad(app.address, 16, { request: { path: '/', headers: {} } });
  await load.waitForAnswers(100);
  app.kill('SIGTERM');
  expect(await app.exited).toEqual(graceful);
  const { ok, history } = await load.stop();
  const requests = linesOf(app, /^service closed/).reduce((sum, line) => sum + Number(line.requests), 0);
  expect(ok).toBe(requests);
  expect(history.every(({ status = 200 }) => status === 200)).toBe(true);
});
