import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { maxWaiting } from '../../src/server/log.ts';
import { readLog } from '../support/app.ts';
import {
  atEnd,
  childrenOf,
  killIfRunning,
  startProcess,
  stopAll,
  temporaryDirectory,
} from '../support/processes.ts';
import { freePort, request, workerOf } from '../support/requests.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { waitFor } from '../support/wait.ts';

afterEach(stopAll);

/** The app, whose log is a pipe as Docker makes it. Nobody reads it but `read()`, which takes what is there. */
async function startUnread(env: Record<string, string>) {
  const pipe = join(temporaryDirectory(), 'log');
  execFileSync('mkfifo', [pipe]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const port = await freePort();
  const primary = startProcess('sh', ['-c', `exec node dist/main.js >'${pipe}'`], {
    cwd: copyWithTestService(),
    env: { PATH: process.env.PATH, LISTEN: String(port), ...env },
  });
  atEnd(async () => {
    const workers = childrenOf(primary.pid);
    primary.kill('SIGKILL');
    for (const pid of workers) killIfRunning(pid, 'SIGKILL');
    await primary.exited;
    closeSync(reader);
  });
  let text = '';
  const read = () => {
    const buffer = Buffer.alloc(1 << 20);
    try {
      text += buffer.toString('utf8', 0, readSync(reader, buffer));
    } catch {
      // nothing is there
    }
    return readLog(text);
  };
  const to = { port };
  await waitFor(() => request(to, '/livez'), 'the app to answer');
  return { to, primary, read };
}

test('a reader of the log that stalls stops neither workers nor primary; when it reads again, it gets the number of lost lines', async () => {
  const { to, primary, read } = await startUnread({ WEB_CONCURRENCY: '1' });
  /** Each makes a line. */
  async function fail(requests: number): Promise<void> {
    for (let i = 0; i < requests; i += 50) {
      const answers = Array.from({ length: 50 }, () => request(to, '/broken', { timeout: 5_000 }));
      for (const { status } of await Promise.all(answers)) expect(status).toBe(500);
    }
  }
  await fail(200); // more than the pipe holds
  // Now the primary has lines to write, too.
  for (let deaths = 1; deaths <= 3; deaths++) {
    const worker = workerOf(await request(to, '/livez'));
    await request(to, '/fatal', { timeout: 5_000 });
    await waitFor(async () => workerOf(await request(to, '/livez')) !== worker, 'a new worker');
  }
  const lines = maxWaiting + 200;
  await fail(lines);
  const isLoss = ({ msg }: { msg: string }) => /^\d+ lines of the log were dropped/.test(msg);
  const loss = await waitFor(() => read().find(isLoss), 'the number of lost lines');
  const failures = read().filter(({ pid, msg }) => pid === loss.pid && msg === 'request failed').length;
  expect(failures + Number.parseInt(loss.msg, 10)).toBe(lines);
  const died = () => read().filter(({ msg }) => /died .* and is replaced/.test(msg)).length === 3;
  await waitFor(died, 'what the primary had to say');
  primary.kill('SIGTERM');
  expect(await primary.exited).toEqual({ code: 0, signal: null });
});

test('the last words of a process wait for a reader that is late', async () => {
  const { to, read } = await startUnread({ WEB_CONCURRENCY: '1' });
  for (let i = 0; i < 200; i++) await request(to, '/broken');
  const worker = workerOf(await request(to, '/livez'));
  request(to, '/fatal').catch(() => {});
  const isLast = ({ pid, level }: { pid: number; level: string }) => pid === worker && level === 'fatal';
  expect(await waitFor(() => read().find(isLast), 'the last words', 5_000)).toMatchObject({
    err: { message: 'nobody catches this' },
  });
});
