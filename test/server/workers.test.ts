import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { type App, startApp } from '../support/app.ts';
import { expectFlawless, judgeLoad, startLightLoad } from '../support/load.ts';
import { childrenOf, isRunning, stopAll, temporaryDirectory, titleOf } from '../support/processes.ts';
import { request, workerOf } from '../support/requests.ts';
import { delay, waitFor } from '../support/wait.ts';

afterEach(stopAll);

const same = (some: number[], others: number[]) => some.some((pid) => others.includes(pid));

/** The workers that answer some connections at the same time. */
async function whoAnswer(app: App): Promise<number[]> {
  const answers = await Promise.all(Array.from({ length: 6 }, () => request(app.address, '/livez')));
  return answers.map(workerOf);
}

test('process titles name the primary and its workers', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2' } });
  expect(titleOf(app.pid)).toBe('app: primary');
  expect(app.workers().map(titleOf).sort()).toEqual(['app: worker 1', 'app: worker 2']);
});

test('a worker that dies under load is replaced', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2' }, backed: true });
  const load = startLightLoad(app.address, 8);
  for (let i = 0; i < 2; i++) {
    await load.waitForAnswers(50);
    const before = app.workers();
    process.kill(before[i % 2] as number, 'SIGKILL');
    const isNew = (pid: number) => !before.includes(pid);
    await waitFor(async () => (await whoAnswer(app)).some(isNew), 'the new worker to answer');
  }
  const { history } = await load.stop();
  // Without nginx a killed worker's requests have no answer.
  expect(history.every(({ status = 200 }) => status === 200)).toBe(true);
  expect((await judgeLoad(app.address, history)).wrong).toEqual([]);
  expect(app.workers()).toHaveLength(2);
  expect(app.log().filter(({ msg }) => /died \(killed by SIGKILL\) and is replaced/.test(msg))).toHaveLength(
    2,
  );
});

test('SIGTTIN and SIGTTOU make it one worker more and one less, but never none', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1' }, backed: true });
  const load = startLightLoad(app.address, 4);
  const toHave = (n: number) => waitFor(() => app.workers().length === n, `${n} workers`);
  app.kill('SIGTTIN');
  await toHave(2);
  const isSecond = (pid: number) => pid === app.workers()[1];
  await waitFor(async () => (await whoAnswer(app)).some(isSecond), 'the second worker to answer');
  app.kill('SIGTTOU');
  await toHave(1);
  app.kill('SIGTTOU');
  await app.waitForLog(/^1 workers? wanted/, { nth: 2 });
  expect(app.workers()).toHaveLength(1);
  app.kill('SIGHUP'); // the number outlives a reload
  await app.waitForLog(/^reloaded/);
  await toHave(1);
  await expectFlawless(app.address, load);
});

test('a worker that is stuck is killed after WORKER_TIMEOUT and replaced; one that beats is not', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', WORKER_TIMEOUT: '2' } });
  const [stuck, other] = app.workers() as [number, number];
  process.kill(stuck, 'SIGSTOP');
  await app.waitForLog(new RegExp(`worker ${stuck} died \\(silent for 2 s\\) and is replaced`));
  await waitFor(() => app.workers().length === 2 && !app.workers().includes(stuck), 'the replacement');
  expect(isRunning(stuck)).toBe(false);
  expect(app.workers()).toContain(other);
});

test('a primary that was paused blames no worker for it', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', WORKER_TIMEOUT: '1' }, backed: true });
  const before = app.workers();
  const begin = performance.now();
  app.kill('SIGSTOP');
  await waitFor(() => performance.now() - begin > 2_000, 'twice the timeout');
  app.kill('SIGCONT');
  app.kill('SIGTTIN'); // answered after the pause
  await waitFor(() => app.workers().length === 3, 'a third worker');
  expect(app.workers()).toEqual(expect.arrayContaining(before));
  expect(app.log().filter(({ level }) => level !== 'info')).toEqual([]);
});

test.each([1, 3])(
  'all workers (%d) killed at once are all replaced, and no connection is refused meanwhile',
  async (count) => {
    const app = await startApp({ env: { WEB_CONCURRENCY: String(count) } });
    const before = app.workers();
    for (const pid of before) process.kill(pid, 'SIGKILL');
    await waitFor(() => !before.some(isRunning), 'the end of all workers');
    expect(await request(app.address, '/livez')).toMatchObject({ status: 200 });
    await waitFor(() => app.workers().length === count && !same(before, app.workers()), 'new workers');
    await waitFor(() => whoAnswer(app), 'an answer');
    expect(childrenOf(app.pid)).toHaveLength(count);
  },
);

/** Code that runs in every process of the app before its own. */
function preload(code: string): string[] {
  const file = join(temporaryDirectory(), 'preload.cjs');
  writeFileSync(file, code);
  return ['--require', file];
}

test('a stop sends one SIGTERM to a worker, however often it is asked for', async () => {
  const nodeArguments = preload(
    `if (require('node:cluster').isWorker) process.on('SIGTERM', () => console.log('SIGTERM received'));`,
  );
  const app = await startApp({ env: { WEB_CONCURRENCY: '1' }, nodeArguments });
  const client = connect((app.address as { port: number }).port, '127.0.0.1');
  client.write('GET /livez HTTP/1.1\r\nHo'); // a worker waits for the rest
  await request(app.address, '/livez'); // accepted after it
  for (let times = 1; times <= 3; times++) {
    app.kill('SIGTERM');
    await waitFor(() => /SIGTERM received/.test(app.output()), 'the signal');
    await delay(50);
  }
  client.end('st: here\r\n\r\n');
  expect(await app.exited).toEqual({ code: 0, signal: null });
  expect(app.output().match(/SIGTERM received/g)).toHaveLength(1);
});

test('while the system cannot fork, the other workers go on, and the missing one comes later', async () => {
  const nodeArguments = preload(
    `const { execPath } = process;
     process.on('SIGUSR2', () => { process.execPath = process.execPath === execPath ? '/missing' : execPath; });`,
  );
  const app = await startApp({ env: { WEB_CONCURRENCY: '2' }, nodeArguments });
  const [first, other] = app.workers() as [number, number];
  app.kill('SIGUSR2');
  process.kill(first, 'SIGKILL');
  await app.waitForLog(/died before it listened \(spawn \/missing ENOENT\)/, { nth: 3 });
  expect(app.workers()).toEqual([other]);
  expect(await request(app.address, '/livez')).toMatchObject({ status: 200 });
  app.kill('SIGUSR2');
  await waitFor(() => app.workers().length === 2, 'the second worker');
});
