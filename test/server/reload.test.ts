import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { spawnApp, startApp } from '../support/app.ts';
import { expectFlawless, startLightLoad } from '../support/load.ts';
import { isRunning, root, stopAll, temporaryDirectory } from '../support/processes.ts';
import { copyRepository } from '../support/repository.ts';
import { request } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

afterEach(stopAll);

const same = (some: number[], others: number[]) => some.some((pid) => others.includes(pid));

const newSocket = () => join(temporaryDirectory(), 'app.sock');

test.each([
  ['one worker', 1, 'a TCP port', () => '', true],
  ['two workers', 2, 'a unix socket, each request on a new connection', newSocket, false],
])('a reload of %s (%i) under load replaces all and fails no request, on %s', async (...args) => {
  const [, workers, , listen, keepAlive] = args;
  const app = await startApp({
    env: { WEB_CONCURRENCY: String(workers), LISTEN: listen() },
    backed: true,
  });
  const load = startLightLoad(app.address, 8, { keepAlive });
  for (const nth of [1, 2]) {
    await load.waitForAnswers(50);
    const before = app.workers();
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/, { nth });
    await waitFor(() => !same(before, app.workers()), 'the old workers to end');
    expect(app.workers()).toHaveLength(workers);
  }
  await expectFlawless(app.address, load);
});

test('SIGHUP while the workers start leads to as many workers, and no failure', async () => {
  const app = await spawnApp({ env: { WEB_CONCURRENCY: '2' }, backed: true });
  await waitFor(() => app.workers().length === 2, 'the first workers');
  app.kill('SIGHUP');
  app.kill('SIGHUP');
  await app.waitForLog(/^serving/);
  await app.waitForLog(/^reloaded/);
  await waitFor(() => app.workers().length === 2, 'two workers');
  expect(await request(app.address, '/livez')).toMatchObject({ status: 200 });
  expect(app.log().filter(({ level }) => level !== 'info')).toEqual([]);
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 0, signal: null });
});

test('SIGTERM in the middle of a reload stops all workers, old and new', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2' } });
  app.kill('SIGHUP');
  const workers = await waitFor(
    () => (app.workers().length === 4 ? app.workers() : undefined),
    'the new workers',
  );
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 0, signal: null });
  expect(workers.filter(isRunning)).toEqual([]);
});

test('new code that dies at its start aborts the reload, and the old workers go on without a failure', async () => {
  const copy = copyRepository('dist');
  const file = join(copy, 'dist/server/worker.js');
  const entry = join(copy, 'dist/main.js');
  const app = await startApp({ env: { WEB_CONCURRENCY: '2' }, entry, backed: true });
  const before = app.workers();
  const load = startLightLoad(app.address, 4);
  for (const [i, code] of ["throw new Error('of no use');", 'this is no code'].entries()) {
    writeFileSync(file, code);
    app.kill('SIGHUP');
    await app.waitForLog(/^reload aborted/, { nth: i + 1 });
    await waitFor(() => app.workers().length === 2, 'the new workers to end');
    expect(app.workers()).toEqual(before);
  }
  await app.waitForLog(/died before it listened.*of no use/);
  await app.waitForLog(/died before it listened.*SyntaxError/);
  writeFileSync(file, `export * from '${join(root, 'dist/server/worker.js')}';`);
  app.kill('SIGHUP');
  await app.waitForLog(/^reloaded/);
  await waitFor(() => !same(before, app.workers()), 'the old workers to end');
  await expectFlawless(app.address, load);
});

test('a worker that has served MAX_REQUESTS is replaced, successor first: no request fails', async () => {
  const app = await startApp({
    env: { WEB_CONCURRENCY: '2', MAX_REQUESTS: '60', MAX_REQUESTS_JITTER: '20' },
    backed: true,
  });
  const before = app.workers();
  const load = startLightLoad(app.address, 8);
  await app.waitForLog(/has served its number of requests/, { nth: 3 });
  await waitFor(() => !same(before, app.workers()), 'the first workers to end');
  await expectFlawless(app.address, load);
});
