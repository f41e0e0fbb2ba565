import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type Koa from 'koa';
import type { Context } from 'koa';
import { createApp } from '../../src/app.ts';
import { type Counter, CounterUnavailable } from '../../src/counter.ts';
import { type RequestOptions, request } from '../processes.ts';

let server: Server | undefined;
afterEach(() => {
  server?.close();
});

/** The app on a counter that counts on its fingers, or fails; and all that can be seen of both. */
async function serve(failure?: Error) {
  const ids: string[] = [];
  const errors: { error: Error; ctx: Context }[] = [];
  const counter: Counter = {
    async hit(id) {
      if (failure) throw failure;
      return ids.push(id);
    },
    async ready() {
      if (failure) throw failure;
    },
    async close() {},
  };
  const app: Koa = createApp(counter);
  app.on('error', (error, ctx) => errors.push({ error, ctx }));
  const listening = createServer(app.callback());
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as AddressInfo;
  return {
    app,
    ids,
    errors,
    ask: (path = '/', options?: RequestOptions) => request({ port }, path, options),
  };
}

test('GET / counts one visit and tells its number', async () => {
  const { ask } = await serve();
  const first = await ask();
  expect(first).toMatchObject({ status: 200, body: "I've been seen 1 times.\n" });
  expect(first.headers['content-type']).toBe('text/plain; charset=utf-8');
  expect(await ask()).toMatchObject({ body: "I've been seen 2 times.\n" });
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
  expect(body).toMatch(/<strong>1<\/strong>/);
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
  ['PROPFIND', '/', 405],
  ['POST', '/livez', 405],
])('%s %s counts nothing and is answered by %i', async (method, path, status) => {
  const { ask, ids } = await serve();
  expect(await ask(path, { method })).toMatchObject({ status });
  expect(ids).toEqual([]);
});

test('HEAD / has no body', async () => {
  const { ask } = await serve();
  expect(await ask('/', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
});

test('a method that a path does not have is answered by the ones that it has', async () => {
  const { ask } = await serve();
  const { status, headers } = await ask('/', { method: 'POST' });
  expect(status).toBe(405);
  expect(headers.allow?.split(', ').sort()).toEqual(['GET', 'HEAD']);
});

test('a request without an id gets a new one of 32 hexadecimal digits', async () => {
  const { ask, ids } = await serve();
  await ask();
  await ask();
  expect(new Set(ids).size).toBe(2);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
});

test('a request id of 32 hexadecimal digits is the id of the visit', async () => {
  const { ask, ids } = await serve();
  await fc.assert(
    fc.asyncProperty(fc.stringMatching(/^[0-9a-f]{32}$/), async (id) => {
      const { status } = await ask('/', { headers: { 'X-Request-ID': id } });
      expect(status).toBe(200);
      expect(ids.at(-1)).toBe(id);
    }),
    { numRuns: 20 },
  );
});

test('any other request id is refused and counts nothing', async () => {
  const { ask, ids } = await serve();
  // What HTTP can carry in a header: visible ASCII and spaces; without an effect at its ends.
  const text = fc.oneof(
    fc.string().filter((given) => /^[ -~]*$/.test(given)),
    fc.stringMatching(/^[0-9A-F]{32}$/).filter((given) => /[A-F]/.test(given)),
    fc.stringMatching(/^([0-9a-f]{31}|[0-9a-f]{33})$/),
  );
  const others = text.filter((given) => !/^[0-9a-f]{32}$/.test(given.trim()));
  await fc.assert(
    fc.asyncProperty(others, async (id) => {
      expect((await ask('/', { headers: { 'X-Request-ID': id } })).status).toBe(400);
    }),
    { numRuns: 50 },
  );
  expect(ids).toEqual([]);
});

test('two request ids are one too many', async () => {
  const { ask } = await serve();
  const id = 'a'.repeat(32);
  expect((await ask('/', { headers: { 'X-Request-ID': `${id}, ${id}` } })).status).toBe(400);
});

test('a visit that cannot be counted is answered by 503 and when to come again', async () => {
  const { ask } = await serve(new CounterUnavailable('not now'));
  const { status, headers, body } = await ask();
  expect({ status, body }).toEqual({ status: 503, body: 'not now' });
  expect(headers['retry-after']).toBe('1');
});

test('a mistake in the code is answered by 500 and tells the client nothing', async () => {
  const { ask } = await serve(new Error('the password is secret'));
  expect(await ask()).toMatchObject({ status: 500, body: 'Internal Server Error' });
});

test('each failed request is one error event, with the id of the request', async () => {
  const { ask, errors } = await serve(new CounterUnavailable('not now'));
  const id = 'b'.repeat(32);
  await ask('/', { headers: { 'X-Request-ID': id } });
  expect(errors).toHaveLength(1);
  expect(errors[0]?.ctx.state.requestId).toBe(id);
  expect(errors[0]?.error.message).toBe('not now');
});

test('without its store the app is alive, not ready', async () => {
  const { ask } = await serve(new CounterUnavailable('the counter is not available'));
  expect(await ask('/livez')).toMatchObject({ status: 200, body: 'alive\n' });
  expect(await ask('/readyz')).toMatchObject({ status: 503 });
});

test('while the service drains it is alive, not ready, and still counts', async () => {
  const { app, ask } = await serve();
  expect(await ask('/readyz')).toMatchObject({ status: 200, body: 'ready\n' });
  app.context.draining = true;
  expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'stopping' });
  expect(await ask('/livez')).toMatchObject({ status: 200 });
  expect(await ask('/')).toMatchObject({ status: 200 });
});
