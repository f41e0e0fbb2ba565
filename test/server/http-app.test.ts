import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import Router from '@koa/router';
import fc from 'fast-check';
import type { Context } from 'koa';
import type { Log, Service } from '../../src/contract.ts';
import { createHttpApp, logFailures, readyTimeout } from '../../src/server/http-app.ts';
import { Unavailable } from '../../src/server/retry.ts';
import { WorkerMetrics } from '../../src/server/worker-metrics.ts';
import { type RequestOptions, request } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

/** An application on a small service of the tests' own, and all that can be seen of it. */
async function serve({
  isTrustedProxy,
  ...overrides
}: Partial<Service> & { isTrustedProxy?: () => boolean } = {}) {
  const ids: string[] = [];
  const errors: { error: Error & { status?: number }; ctx: Context | undefined }[] = [];
  const lines: { level: string; fields: object; message: string }[] = [];
  const router = new Router();
  router.get('/', (ctx) => {
    ids.push(ctx.state.requestId);
    ctx.body = 'fine\n';
  });
  router.get('/client', (ctx) => {
    ctx.body = { ip: ctx.ip, host: ctx.host, secure: ctx.secure };
  });
  router.post('/', (ctx) => {
    ctx.status = 201;
  });
  router.get('/unavailable', () => {
    throw new Unavailable('not now');
  });
  router.get('/broken', () => {
    throw new Error('the password is secret');
  });
  router.get('/refused', (ctx) => ctx.throw(422, 'a date is missing'));
  const service: Service = { router, async ready() {}, drain() {}, async close() {}, ...overrides };
  const { koa, stopBeingReady } = createHttpApp(service, {
    metrics: new WorkerMetrics(),
    readMetrics: async () => 'numbers\n',
    ...(isTrustedProxy && { isTrustedProxy }),
  });
  koa.on('error', (error, ctx) => errors.push({ error, ctx }));
  const write = (level: string) => (fields: object, message: string) =>
    lines.push({ level, fields, message });
  logFailures(koa, { warn: write('warn'), error: write('error') } as unknown as Log);
  const listening = createServer(koa.callback());
  server = listening;
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const { port } = listening.address() as AddressInfo;
  return {
    ids,
    errors,
    lines,
    port,
    stopBeingReady,
    ask: (path = '/', options?: RequestOptions) => request({ port }, path, options),
  };
}

/** What a server answers to bytes that no client of HTTP would send; it closes the connection then. */
async function sendRaw(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let answer = '';
  socket.setEncoding('utf8').on('data', (part) => {
    answer += part;
  });
  socket.on('error', () => {}); // 'close' follows
  socket.write(text);
  await new Promise((resolve) => socket.once('close', resolve));
  return answer;
}

test.each([
  ['GET', '/', 200],
  ['POST', '/', 201],
  ['HEAD', '/', 200],
  ['OPTIONS', '/', 200],
  ['GET', '/livez', 200],
  ['HEAD', '/livez', 200],
  ['GET', '/readyz', 200],
  ['HEAD', '/readyz', 200],
  ['GET', '/missing', 404],
  ['POST', '/missing', 404],
  ['DELETE', '/', 405],
  ['PROPFIND', '/', 405],
  ['POST', '/livez', 405],
  ['POST', '/readyz', 405],
])('%s %s is answered by %i', async (method, path, status) => {
  const { ask } = await serve();
  expect(await ask(path, { method })).toMatchObject({ status });
});

test('the answer to HEAD has no body', async () => {
  const { ask } = await serve();
  expect(await ask('/', { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
});

test('a method that a path does not have is answered by those that it has', async () => {
  const { ask } = await serve();
  const { status, headers } = await ask('/', { method: 'DELETE' });
  expect(status).toBe(405);
  expect(headers.allow?.split(', ').sort()).toEqual(['GET', 'HEAD', 'POST']);
});

test("a path of the server's has one spelling; the service's router decides on its own paths", async () => {
  const router = new Router();
  router.get('/notes', (ctx) => {
    ctx.body = 'fine\n';
  });
  const { ask } = await serve({ router });
  const statuses = async (...paths: string[]) =>
    Promise.all(paths.map(async (path) => (await ask(path)).status));
  expect(await statuses('/livez/', '/LIVEZ', '/readyz/', '/Metrics')).toEqual([404, 404, 404, 404]);
  expect(await statuses('/notes', '/notes/', '/NOTES')).toEqual([200, 200, 200]);
});

describe('request ids', () => {
  test('a request without an id gets a new one of 32 hexadecimal digits', async () => {
    const { ask, ids } = await serve();
    await ask();
    await ask();
    expect(new Set(ids).size).toBe(2);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  });

  const isTrustedProxy = () => true;
  const hex = fc.stringMatching(/^[0-9a-f]{32}$/);

  test('an id of 32 hexadecimal digits is what the service sees, if who asks is believed', async () => {
    const { ask, ids } = await serve({ isTrustedProxy });
    await fc.assert(
      fc.asyncProperty(hex, async (id) => {
        const { status } = await ask('/', { headers: { 'X-Request-ID': id } });
        expect(status).toBe(200);
        expect(ids.at(-1)).toBe(id);
      }),
      { numRuns: 20 },
    );
  });

  test('a UUID, as other proxies send it, is the id that its digits are', async () => {
    const { ask, ids } = await serve({ isTrustedProxy });
    await ask('/', { headers: { 'X-Request-ID': '0B9D1F6A-7f1c-4e57-8c7e-1a2b3c4d5e6f' } });
    expect(ids).toEqual(['0b9d1f6a7f1c4e578c7e1a2b3c4d5e6f']);
  });

  test('any other id is no mistake, and the request gets a new one', async () => {
    const { ask, ids } = await serve({ isTrustedProxy });
    // What HTTP can carry in a header: visible ASCII and spaces; without an effect at its ends.
    const text = fc.oneof(
      fc.string().filter((given) => /^[ -~]*$/.test(given)),
      fc.stringMatching(/^([0-9a-f]{31}|[0-9a-f]{33})$/),
      hex.map((id) => `${id}, ${id}`),
    );
    await fc.assert(
      fc.asyncProperty(text, async (id) => {
        expect((await ask('/', { headers: { 'X-Request-ID': id } })).status).toBe(200);
      }),
      { numRuns: 50 },
    );
    expect(new Set(ids).size).toBe(ids.length);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/);
  });

  test('the id of who is not believed is ignored, whatever it is, by probes as well', async () => {
    const { ask, ids } = await serve();
    const headers = { 'X-Request-ID': 'd'.repeat(32) };
    for (const path of ['/', '/', '/livez', '/readyz']) {
      expect(await ask(path, { headers })).toMatchObject({ status: 200 });
    }
    expect(new Set([...ids, headers['X-Request-ID']]).size).toBe(3);
  });
});

describe('what a proxy says of the client', () => {
  const headers = {
    Host: 'inside',
    'X-Forwarded-For': '6.6.6.6, 203.0.113.9',
    'X-Forwarded-Host': 'example.org',
    'X-Forwarded-Proto': 'https',
  };

  test('is true of one that is believed; what the client wrote before it is not', async () => {
    const { ask } = await serve({ isTrustedProxy: () => true });
    const { body } = await ask('/client', { headers });
    expect(JSON.parse(body)).toEqual({ ip: '203.0.113.9', host: 'example.org', secure: true });
  });

  test('of a list of schemes the first one counts', async () => {
    const { ask } = await serve({ isTrustedProxy: () => true });
    const { body } = await ask('/client', { headers: { ...headers, 'X-Forwarded-Proto': 'https,http' } });
    expect(JSON.parse(body)).toMatchObject({ secure: true });
  });

  test('is ignored of anybody else', async () => {
    const { ask } = await serve();
    const { body } = await ask('/client', { headers });
    expect(JSON.parse(body)).toEqual({ ip: '127.0.0.1', host: 'inside', secure: false });
  });
});

describe('what is malformed', () => {
  test.each([
    ['a URL without a path', 'GET http://[::1 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n'],
    [
      'an unknown transfer coding',
      'POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
    ],
    ['no HTTP', '\x16\x03\x01 nonsense\r\n\r\n'],
  ])('%s is answered by 400, and nobody logs it', async (_, text) => {
    const { port, ids, lines } = await serve();
    expect(await sendRaw(port, text)).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(ids).toEqual([]);
    expect(lines).toEqual([]);
  });

  test('an absolute URL is an address like any other', async () => {
    const { port } = await serve();
    const text = 'GET http://here/livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n';
    expect(await sendRaw(port, text)).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*alive\n$/);
  });
});

describe('failures', () => {
  test('what is not available now is answered by 503 and when to come again', async () => {
    const { ask } = await serve();
    const { status, headers, body } = await ask('/unavailable');
    expect({ status, body }).toEqual({ status: 503, body: 'not now' });
    expect(headers['retry-after']).toBe('1');
  });

  test('a mistake in the code is answered by 500 and tells the client nothing', async () => {
    const { ask } = await serve();
    expect(await ask('/broken')).toMatchObject({ status: 500, body: 'Internal Server Error' });
  });

  test("a client's mistake is answered as the service says", async () => {
    const { ask } = await serve();
    expect(await ask('/refused')).toMatchObject({ status: 422, body: 'a date is missing' });
  });

  test('each failed request is one error event and one line, with the id of the request', async () => {
    const { ask, errors, lines } = await serve({ isTrustedProxy: () => true });
    const id = 'b'.repeat(32);
    await ask('/broken?from=here', { headers: { 'X-Request-ID': id } });
    expect(errors).toHaveLength(1);
    expect(errors[0]?.ctx?.state.requestId).toBe(id);
    expect(lines).toEqual([
      {
        level: 'error',
        message: 'request failed',
        fields: {
          err: expect.objectContaining({ message: 'the password is secret' }),
          request_id: id,
          method: 'GET',
          url: '/broken?from=here',
        },
      },
    ]);
  });

  test("what was the client's mistake is not logged", async () => {
    const { ask, lines } = await serve();
    await ask('/refused');
    await ask('/missing');
    expect(lines).toEqual([]);
  });

  test('a client that leaves a stream is not logged, a stream that fails is', async () => {
    const router = new Router();
    async function* endless() {
      for (;;) {
        yield 'x'.repeat(10_000);
        await new Promise(setImmediate);
      }
    }
    let left: Promise<void> | undefined;
    router.get('/endless', (ctx) => {
      ctx.body = Readable.from(endless());
      left = new Promise((resolve) => ctx.res.once('close', resolve));
    });
    router.get('/failing', (ctx) => {
      ctx.body = Readable.from(endless()).on('data', function fail(this: Readable) {
        this.destroy(new Error('the disk is gone'));
      });
    });
    const { port, ask, lines } = await serve({ router });
    const socket = connect(port, '127.0.0.1');
    socket.write('GET /endless HTTP/1.1\r\nHost: here\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await waitFor(() => left?.then(() => true), 'the end of the stream');
    await expect(ask('/failing')).rejects.toThrow();
    expect(lines).toHaveLength(1);
    expect(lines[0]?.fields).toMatchObject({ err: { message: 'the disk is gone' }, url: '/failing' });
  });
});

describe('probes', () => {
  const away = () => Promise.reject(new Error('the store is away'));

  test('a service that is not ready is alive', async () => {
    const { ask } = await serve({ ready: away });
    const fresh = { 'cache-control': 'no-store' };
    expect(await ask('/livez')).toMatchObject({ status: 200, body: 'alive\n', headers: fresh });
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'not ready' });
  });

  test('why it is not ready is in the log', async () => {
    const { ask, lines } = await serve({ ready: away });
    await ask('/readyz');
    expect(lines).toEqual([expect.objectContaining({ level: 'error', message: 'request failed' })]);
    expect(lines[0]?.fields).toMatchObject({ err: { cause: { message: 'the store is away' } } });
  });

  test('a flood of probes is one line in the log for each time that the service stops being ready', async () => {
    const ready = jest.fn(away);
    const { ask, lines } = await serve({ ready });
    for (let i = 0; i < 5; i++)
      expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'not ready' });
    expect(lines).toHaveLength(1);
    ready.mockResolvedValueOnce(undefined as never);
    expect(await ask('/readyz')).toMatchObject({ status: 200 });
    for (let i = 0; i < 5; i++) expect(await ask('/readyz')).toMatchObject({ status: 503 });
    expect(lines).toHaveLength(2);
  });

  test('a service that throws, instead of rejecting, is not ready', async () => {
    const ready = () => {
      throw new Error('not even a promise');
    };
    const { ask } = await serve({ ready });
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'not ready' });
  });

  test('the service is asked once for all who wait', async () => {
    let answer: (() => void) | undefined;
    const ready = jest.fn(
      () =>
        new Promise<void>((resolve) => {
          answer = resolve;
        }),
    );
    const { ask } = await serve({ ready });
    const probes = Array.from({ length: 50 }, () => ask('/readyz'));
    await ask('/livez'); // accepted in their order: all are waiting by now
    answer?.();
    expect((await Promise.all(probes)).map(({ status }) => status)).toEqual(Array(50).fill(200));
    expect(ready).toHaveBeenCalledTimes(1);
  });

  test('what it says is not remembered: who comes later has it asked again', async () => {
    const ready = jest.fn<() => Promise<void>>().mockRejectedValueOnce(new Error('away')).mockResolvedValue();
    const { ask } = await serve({ ready });
    expect(await ask('/readyz')).toMatchObject({ status: 503 });
    expect(await ask('/readyz')).toMatchObject({ status: 200 });
    expect(ready).toHaveBeenCalledTimes(2);
  });

  test('while the instance stops it is alive, not ready, and still serves', async () => {
    const ready = jest.fn(async () => {});
    const { ask, stopBeingReady } = await serve({ ready });
    expect(await ask('/readyz')).toMatchObject({ status: 200, body: 'ready\n' });
    stopBeingReady();
    expect(await ask('/readyz')).toMatchObject({ status: 503, body: 'stopping' });
    expect(ready).toHaveBeenCalledTimes(1);
    expect(await ask('/livez')).toMatchObject({ status: 200 });
    expect(await ask('/')).toMatchObject({ status: 200 });
  });

  describe('with a service that never says', () => {
    beforeEach(() => {
      jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] });
    });
    afterEach(() => {
      jest.useRealTimers();
    });

    test('it is not ready after half a second, and is not asked twice in that time', async () => {
      const ready = jest.fn(() => new Promise<void>(() => {}));
      const { ask } = await serve({ ready });
      const first = ask('/readyz', { timeout: 3_600_000 });
      while (ready.mock.calls.length === 0) await new Promise(setImmediate);
      await jest.advanceTimersByTimeAsync(readyTimeout - 1);
      const second = ask('/readyz', { timeout: 3_600_000 });
      await ask('/livez', { timeout: 3_600_000 });
      await jest.advanceTimersByTimeAsync(1);
      expect(await first).toMatchObject({ status: 503, body: 'not ready' });
      expect(await second).toMatchObject({ status: 503, body: 'not ready' });
      expect(ready).toHaveBeenCalledTimes(1);
    });
  });
});
