import { existsSync } from 'node:fs';
import { Agent, createServer, type Server } from 'node:http';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Nginx, startNginx } from '../support/nginx.ts';
import {
  atEnd,
  childrenOf,
  isRunning,
  killIfRunning,
  stopAll,
  temporaryDirectory,
} from '../support/processes.ts';
import { request } from '../support/requests.ts';
import { startLoad } from '../support/trial/load.ts';
import { delay, waitFor } from '../support/wait.ts';

const agent = new Agent({ keepAlive: true });
let upstream: Server;
let nginx: Nginx;

beforeEach(async () => {
  upstream = createServer((req, res) => {
    req.resume();
    req.on('end', () => res.end(req.method));
  });
  const socketPath = join(temporaryDirectory(), 'app.sock');
  await new Promise<void>((resolve) => upstream.listen(socketPath, resolve));
  nginx = await startNginx(socketPath, { entryPoint: true });
});
afterEach(async () => {
  agent.destroy();
  await stopAll();
  upstream.closeAllConnections();
  upstream.close();
});

const closingFile = () => join(dirname(nginx.configuration), 'nginx-closing');

test('no reload breaks a request of clients that pause, on connections that are idle meanwhile', async () => {
  const load = startLoad({
    to: { port: nginx.port },
    request: { path: '/', headers: {} },
    busy: 0,
    pausing: 80,
  });
  atEnd(load.terminate);
  const workers = childrenOf(nginx.pid);
  await delay(500);
  for (let reload = 1; reload <= 2; reload++) {
    nginx.kill('SIGHUP');
    await waitFor(() => existsSync(closingFile()), 'the reload to begin');
    await waitFor(() => !existsSync(closingFile()), 'the reload to end');
  }
  const { sent, ok, failed } = await load.stop();
  expect({ ok, failed }).toEqual({ ok: sent, failed: {} });
  expect(childrenOf(nginx.pid).filter((pid) => workers.includes(pid))).toEqual([]);
  expect((await request(nginx, '/', { agent })).headers.connection).toBe('keep-alive');
});

test.each(['SIGQUIT', 'SIGTERM'] as const)(
  'before %s ends it, every answer closes its connection',
  async (signal) => {
    nginx.kill(signal);
    await waitFor(() => existsSync(closingFile()), 'the stop to begin');
    for (const [path, options] of [
      ['/', {}],
      ['/', { method: 'POST', body: 'a body' }],
      ['/missing/favicon.svg', {}],
    ] as const) {
      const { status, headers, body } = await request(nginx, path, { ...options, agent });
      expect({ status, body }).toEqual({ status: 200, body: 'method' in options ? options.method : 'GET' });
      expect(headers.connection).toBe('close');
    }
    expect(await nginx.exited).toEqual({ code: 0, signal: null });
  },
);

test('a master that is killed takes its workers along', async () => {
  const workers = childrenOf(nginx.pid);
  expect(workers.length).toBeGreaterThan(0);
  killIfRunning(nginx.pid, 'SIGKILL');
  await nginx.exited;
  await waitFor(() => !workers.some(isRunning), 'the workers to end');
});
