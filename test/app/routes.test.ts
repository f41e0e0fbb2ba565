import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import type { Counter } from '../../src/app/counter.ts';
import { createRoutes } from '../../src/app/routes.ts';
import { createHttpApp } from '../../src/server/http-app.ts';
import { Unavailable } from '../../src/server/retry.ts';
import { WorkerMetrics } from '../../src/server/worker-metrics.ts';
import { type RequestOptions, request } from '../support/requests.ts';

let server: Server | undefined;
afterEach(() => {
  server?.close();
});

/** The routes on a counter that counts on its fingers, or fails. */
async function serve(failure?: Error) {
  const ids: string[] = [];
  const counter: Counter = {
    async visit(id) {
      if (failure) throw failure;
      return ids.push(id);
    },
  };
  const router = createRoutes(counter, { show() {} });
  const { koa } = createHttpApp(
    { router, async ready() {}, async close() {} },
    { metrics: new WorkerMetrics(), readMetrics: async () => '', isTrustedProxy: () => true },
  );
  koa.silent = true;
  const listening = createServer(koa.callback());
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as AddressInfo;
  return { ids, ask: (path = '/', options?: RequestOptions) => request({ port }, path, options) };
}

test('GET / counts one visit and answers with its number', async () => {
  const { ask } = await serve();
  const first = await ask();
  expect(first).toMatchObject({ status: 200, body: "I've been seen 1 times.\n" });
  expect(first.headers['content-type']).toBe('text/plain; charset=utf-8');
  expect(await ask()).toMatchObject({ body: "I've been seen 2 times.\n" });
});

test('the id of the request is that of the visit', async () => {
  const { ask, ids } = await serve();
  const id = 'a'.repeat(32);
  await ask('/', { headers: { 'X-Request-ID': id } });
  expect(ids).toEqual([id]);
});

test('a visit is never answered from a cache', async () => {
  const { ask } = await serve();
  expect((await ask()).headers).toMatchObject({ 'cache-control': 'no-store', vary: 'Accept' });
});

test('a client that wants JSON gets {"hits": N}', async () => {
  const { ask } = await serve();
  const { headers, body } = await ask('/', { headers: { Accept: 'application/json' } });
  expect(headers['content-type']).toMatch('application/json');
  expect(JSON.parse(body)).toEqual({ hits: 1 });
});

test('a browser gets a page with the number', async () => {
  const { ask } = await serve();
  const accept = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8';
  const { headers, body } = await ask('/', { headers: { Accept: accept } });
  expect(headers['content-type']).toBe('text/html; charset=utf-8');
  expect(body).toMatch(/<strong id="hits">1<\/strong>/);
});

test.each(['*/*', 'image/png', 'text/plain;q=0.5, image/*'])(
  'a client that accepts %s gets text',
  async (accept) => {
    const { ask } = await serve();
    expect((await ask('/', { headers: { Accept: accept } })).body).toBe("I've been seen 1 times.\n");
  },
);

test.each([
  ['HEAD', '/', 200],
  ['OPTIONS', '/', 200],
  ['GET', '/livez', 200],
  ['GET', '/readyz', 200],
  ['GET', '/favicon.ico', 404],
  ['GET', '/robots.txt', 404],
  ['GET', '/index.html', 404],
  ['POST', '/', 405],
  ['DELETE', '/', 405],
])('%s %s counts nothing and is answered by %i', async (method, path, status) => {
  const { ask, ids } = await serve();
  expect(await ask(path, { method })).toMatchObject({ status });
  expect(ids).toEqual([]);
});

test('HEAD / has no body', async () => {
  const { ask } = await serve();
  const headers = { 'cache-control': 'no-store' };
  expect(await ask('/', { method: 'HEAD' })).toMatchObject({ status: 200, body: '', headers });
});

test('a visit that cannot be counted is answered by 503 and when to come again', async () => {
  const { ask } = await serve(new Unavailable('not now'));
  const { status, headers, body } = await ask();
  expect({ status, body }).toEqual({ status: 503, body: 'not now' });
  expect(headers['retry-after']).toBe('1');
});
