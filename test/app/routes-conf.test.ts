import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from '@jest/globals';
import { openPrimary } from '../../src/app/primary.ts';
import { openService } from '../../src/app/service.ts';
import type { AppConfig } from '../../src/app/settings.ts';
import type { Channel } from '../../src/contract.ts';
import { createHttpApp } from '../../src/server/http-app.ts';
import { batch, retry } from '../../src/server/retry.ts';
import { Streams } from '../../src/server/streams.ts';
import { WorkerMetrics } from '../../src/server/worker-metrics.ts';

const listed = readFileSync('src/app/routes.conf', 'utf8')
  .split('\n')
  .map((line) => /^location = (\S+) \{ (.*) \}/.exec(line))
  .flatMap((match) => (match ? [{ path: match[1] as string, directives: match[2] as string }] : []));

/** The service with the count in memory, and its primary in this same process. */
function open() {
  const write = () => {};
  const config = {} as AppConfig;
  const log = { debug: write, info: write, warn: write, error: write, fatal: write };
  const deduplicationWindow = 30_000;
  const [worker, primary] = [new EventEmitter(), new EventEmitter()];
  const channel = (own: EventEmitter, other: EventEmitter): Channel => ({
    on: (event, listener) => own.on(event, listener),
    send: (message) => setImmediate(() => other.emit('message', message)) !== undefined,
    connected: true,
  });
  openPrimary({ config, log, deduplicationWindow })(channel(primary, worker));
  const metrics = new WorkerMetrics();
  const streams = new Streams();
  const context = { config, log, metrics, retry, batch, deduplicationWindow, stream: streams.open };
  return openService({ ...context, primary: channel(worker, primary) });
}

/** The head of an answer, if it comes within a second. */
function headersOf(port: number, path: string): Promise<IncomingHttpHeaders> {
  return new Promise((resolve) => {
    const asking = request({ port, path, headers: { Accept: 'text/event-stream' } }, ({ headers }) => {
      resolve(headers);
      asking.destroy();
    });
    asking.on('error', () => resolve({}));
    setTimeout(() => asking.destroy(), 1_000).unref();
    asking.end();
  });
}

test('src/app/routes.conf lists paths that the service has, and nginx buffers none of its streams', async () => {
  const service = await open();
  const routes = service.router.stack.flatMap(({ path, methods }) =>
    methods.includes('GET') && typeof path === 'string' ? [path] : [],
  );
  const { koa } = createHttpApp(service);
  koa.silent = true;
  const server = createServer(koa.callback());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const heads = await Promise.all(routes.map((path) => headersOf(port, path)));
  server.closeAllConnections();
  server.close();
  await service.close();

  expect(listed.length).toBeGreaterThan(0);
  for (const { path, directives } of listed) {
    expect(routes).toContain(path);
    expect(directives).toMatch(/proxy_pass http:\/\/app;$/);
  }
  const streams = heads.filter((head) => head['content-type'] === 'text/event-stream');
  expect(streams.map((head) => head['x-accel-buffering'])).toEqual(['no']);
  const again = listed.filter(({ directives }) => /proxy_next_upstream .*timeout/.test(directives));
  expect(again.map(({ path }) => path)).toEqual(['/']); // what takes effect once: visits
});
