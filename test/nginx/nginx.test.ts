import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { connect } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { retryBudget } from '../../src/counter.ts';
import { retryWindow } from '../../src/store.ts';
import {
  checkNginx,
  freePort,
  type Nginx,
  numberIn,
  request,
  startApp,
  startLoad,
  startNginx,
  startRedis,
  stopAll,
  temporaryDirectory,
  waitFor,
  writeNginxConfiguration,
} from '../processes.ts';

afterEach(stopAll);

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1);

test('the configuration is valid, without a warning', async () => {
  const directory = temporaryDirectory();
  const socketPath = join(directory, 'app.sock');
  const configuration = writeNginxConfiguration({ port: await freePort(), socketPath, directory });
  const { status, output } = checkNginx(configuration, directory);
  expect(output).not.toMatch(/\[(warn|error|crit|alert|emerg)\]/);
  expect(status).toBe(0);
});

describe('times nest', () => {
  const configuration = readFileSync('deploy/nginx.conf', 'utf8');
  const worker = readFileSync('src/worker.ts', 'utf8');
  const seconds = (directive: string, nth = 0) => {
    const values = [...configuration.matchAll(new RegExp(`^\\s*${directive} ([\\d.]+)s?;`, 'gm'))];
    return Number(values[nth]?.[1]) * 1_000;
  };
  const constant = (name: string) =>
    Number(new RegExp(`${name} = ([\\d_]+)`).exec(worker)?.[1]?.replaceAll('_', ''));

  test('nginx closes an idle connection to the app before a worker that stops does', () => {
    const upstream = /upstream app \{[\s\S]*?\n {2}\}/.exec(configuration)?.[0] ?? '';
    const idle = Number(/keepalive_timeout (\d+)ms;/.exec(upstream)?.[1]);
    expect(idle).toBeGreaterThan(0);
    expect(idle).toBeLessThan(constant('drainIdle'));
    expect(idle).toBeLessThan(constant('keepAliveTimeout'));
  });

  test('nginx waits longer for an answer than the app waits for Redis', () => {
    expect(seconds('proxy_read_timeout')).toBeGreaterThan(retryBudget);
  });

  test('an id is remembered for longer than all tries take, the last one to its end', () => {
    const last =
      seconds('proxy_connect_timeout') + seconds('proxy_send_timeout') + seconds('proxy_read_timeout');
    expect(seconds('proxy_next_upstream_timeout') + last).toBeLessThan(retryWindow);
  });

  test('a slow request holds no worker up for longer than it may take to stop', () => {
    expect(constant('requestTimeout')).toBeLessThan(20_000); // GRACEFUL_TIMEOUT
    expect(seconds('worker_shutdown_timeout')).toBeGreaterThan(20_000);
  });
});

describe('in front of a server that tells what reaches it', () => {
  let upstream: Server;
  let nginx: Nginx;
  let handle: RequestListener;
  const seen: IncomingMessage[] = [];

  beforeEach(async () => {
    seen.length = 0;
    handle = (_, res) => res.end('fine');
    upstream = createServer((req, res) => {
      seen.push(req);
      handle(req, res);
    });
    const socketPath = join(temporaryDirectory(), 'app.sock');
    await new Promise<void>((resolve) => upstream.listen(socketPath, resolve));
    nginx = await startNginx(socketPath);
  });
  afterEach(() => {
    upstream.closeAllConnections();
    upstream.close();
  });
  const ask = (path = '/', headers: Record<string, string> = {}, rest = {}) =>
    request(nginx, path, { headers, ...rest });

  test('each request has an id of its own, whatever the client says', async () => {
    const id = 'd'.repeat(32);
    const answers = [await ask('/', { 'X-Request-ID': id }), await ask('/', { 'X-Request-ID': id })];
    const ids = seen.map(({ headers }) => headers['x-request-id']);
    expect(new Set([...ids, id]).size).toBe(3);
    for (const given of ids) expect(given).toMatch(/^[0-9a-f]{32}$/);
    expect(answers.map(({ headers }) => headers['x-request-id'])).toEqual(ids);
  });

  test('forwarded headers are set, never appended to what a client says', async () => {
    await ask('/', {
      Host: 'example.org:8080',
      'X-Forwarded-For': '6.6.6.6',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Host': 'evil.example',
      Forwarded: 'for=6.6.6.6',
      Connection: 'close',
    });
    expect(seen[0]?.headers).toMatchObject({
      host: 'example.org:8080',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'example.org:8080',
    });
    expect(seen[0]?.headers).not.toHaveProperty('forwarded');
    expect(seen[0]?.headers.connection).not.toBe('close');
  });

  test('connections to the app are kept: each serves many requests', async () => {
    for (let i = 0; i < 30; i++) await ask();
    // One of each worker of nginx.
    expect(new Set(seen.map(({ socket }) => socket)).size).toBeLessThanOrEqual(availableParallelism());
  });

  test('a request whose worker dies is given to another, under the same id', async () => {
    handle = (req, res) => {
      if (seen.length === 1) req.socket.destroy();
      else res.end('fine');
    };
    expect(await ask()).toMatchObject({ status: 200, body: 'fine' });
    const ids = seen.map(({ headers }) => headers['x-request-id']);
    expect(ids).toHaveLength(2);
    expect(ids[0]).toBe(ids[1]);
  });

  test('tries are bounded, and the client is told 502', async () => {
    handle = (req) => req.socket.destroy();
    expect(await ask()).toMatchObject({ status: 502 });
    expect(seen.length).toBeLessThanOrEqual(4);
    expect(seen.length).toBeGreaterThanOrEqual(2);
    handle = (_, res) => res.end('fine');
    expect(await ask()).toMatchObject({ status: 200 }); // one failure bans nobody
  });

  test('what changes something is tried once', async () => {
    handle = (req) => req.socket.destroy();
    expect(await ask('/', {}, { method: 'POST', body: 'once' })).toMatchObject({ status: 502 });
    expect(seen).toHaveLength(1);
  });

  test.each([
    ['a body of more than 16 k', '/', {}, 413, 'x'.repeat(16 * 1024 + 1)],
    ['a header of more than 8 k', '/', { 'X-Large': 'x'.repeat(8 * 1024) }, 400, undefined],
    ['an address of more than 8 k', `/${'x'.repeat(8 * 1024)}`, {}, 414, undefined],
  ])('%s is refused and never reaches the app', async (_, path, headers, status, body) => {
    const method = body ? 'POST' : 'GET';
    expect(await ask(path, headers, { method, body })).toMatchObject({ status });
    expect(seen).toEqual([]);
  });

  test('what is within the limits reaches the app', async () => {
    expect(await ask('/', { 'X-Large': 'x'.repeat(7_000) })).toMatchObject({ status: 200 });
    const body = 'x'.repeat(16 * 1024);
    expect(await ask(`/${'x'.repeat(7_000)}`, {}, { method: 'POST', body })).toMatchObject({ status: 200 });
  });

  test('what is not HTTP is refused and never reaches the app', async () => {
    const socket = connect(nginx.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    socket.write('\x16\x03\x01 nonsense\r\n\r\n');
    await new Promise((resolve) => socket.once('close', resolve));
    expect(text).toMatch(/400 Bad Request/);
    expect(seen).toEqual([]);
  });

  test('the access log has one line of JSON a request, with its id, its worker and its times', async () => {
    handle = (_, res) => res.setHeader('X-Worker', 'here:17').end('fine');
    const { headers } = await ask('/?"quoted\\path', { 'User-Agent': 'a "strange" \\ agent' });
    const line = await waitFor(() => nginx.accessLog().find(({ worker }) => worker), 'the line');
    expect(line).toMatchObject({
      request_id: headers['x-request-id'],
      method: 'GET',
      uri: '/?"quoted\\path',
      status: '200',
      upstream_status: '200',
      worker: 'here:17',
      user_agent: 'a "strange" \\ agent',
    });
    expect(Number(line.upstream_seconds)).toBeGreaterThanOrEqual(0);
    expect(headers).not.toHaveProperty('x-worker'); // for the log only
  });

  test.each(['/', '/favicon.svg', '/missing'])(
    'the answer to %s has the security headers, and no version',
    async (path) => {
      handle = (req, res) => {
        res.statusCode = req.url === '/missing' ? 404 : 200;
        res.end();
      };
      const { headers } = await ask(path, { Host: 'example.org' });
      expect(headers).toMatchObject({
        server: 'nginx',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'strict-origin-when-cross-origin',
        'content-security-policy': expect.stringMatching(/default-src 'self'.*frame-ancestors 'self'$/),
        'x-request-id': expect.stringMatching(/^[0-9a-f]{32}$/),
      });
      expect(headers).not.toHaveProperty('x-frame-options'); // blanks a preview
    },
  );

  test.each(['localhost:8080', '127.0.0.1:8080', 'name-8080.app.github.dev'])(
    'a preview pane may show the page of %s',
    async (host) => {
      const { headers } = await ask('/', { Host: host });
      expect(headers['content-security-policy']).toMatch(/frame-ancestors \*$/);
    },
  );

  test.each(['app.github.dev.example.org', 'localhost.example.org', 'example.org'])(
    'nobody else may frame the page of %s',
    async (host) => {
      const { headers } = await ask('/', { Host: host });
      expect(headers['content-security-policy']).toMatch(/frame-ancestors 'self'$/);
    },
  );

  test('a large answer is compressed, a small one is not', async () => {
    const large = JSON.stringify(upTo(1_000));
    handle = (req, res) => {
      res.setHeader('Content-Type', 'application/json');
      res.end(req.url === '/large' ? large : '[1]');
    };
    const small = await ask('/small', { 'Accept-Encoding': 'gzip' });
    expect(small.headers).not.toHaveProperty('content-encoding');
    const proxied = { 'Accept-Encoding': 'gzip', Via: '1.1 proxy' };
    const raw = await new Promise<{ encoding?: string; vary?: string; body: Buffer }>((resolve) => {
      const socket = connect(nginx.port, '127.0.0.1');
      const parts: Buffer[] = [];
      socket.on('data', (part) => parts.push(part));
      socket.once('close', () => {
        const all = Buffer.concat(parts);
        const split = all.indexOf('\r\n\r\n');
        const head = all.subarray(0, split).toString();
        const header = (name: string) => new RegExp(`^${name}: (.*?)\r?$`, 'im').exec(head)?.[1] as string;
        resolve({
          encoding: header('Content-Encoding'),
          vary: header('Vary'),
          body: all.subarray(split + 4),
        });
      });
      const lines = Object.entries({ Host: 'here', ...proxied, Connection: 'close' });
      socket.write(`GET /large HTTP/1.1\r\n${lines.map((line) => `${line.join(': ')}\r\n`).join('')}\r\n`);
    });
    expect(raw).toMatchObject({ encoding: 'gzip', vary: 'Accept-Encoding' });
    expect(gunzipSync(unchunk(raw.body)).toString()).toBe(large);
  });
});

/** The body of an answer in chunks (RFC 9112, 7.1). */
function unchunk(body: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = body.indexOf('\r\n', at);
    const size = Number.parseInt(body.subarray(at, end).toString(), 16);
    if (!size) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

test('static files come first, from nginx, with an ETag, and are asked for again each time', async () => {
  const nginx = await startNginx(join(temporaryDirectory(), 'nobody.sock'));
  const { status, headers, body } = await request(nginx, '/favicon.svg');
  expect({ status, body }).toEqual({ status: 200, body: readFileSync('src/static/favicon.svg', 'utf8') });
  expect(headers).toMatchObject({ 'content-type': 'image/svg+xml', 'cache-control': 'no-cache' });
  const again = await request(nginx, '/favicon.svg', {
    headers: { 'If-None-Match': headers.etag as string },
  });
  expect(again).toMatchObject({ status: 304, body: '' });
  expect(await request(nginx, '/')).toMatchObject({ status: 502 }); // the app is away
});

test('a static file whose name has a hash of its content is kept for good', async () => {
  const files = temporaryDirectory();
  const hash = createHash('sha256').update('let it be').digest('hex').slice(0, 8);
  writeFileSync(join(files, 'favicon.svg'), '');
  writeFileSync(join(files, `app-${hash}.js`), 'let it be');
  writeFileSync(join(files, 'app-facade.js'), 'no hash');
  const nginx = await startNginx(join(files, 'nobody.sock'), { files });
  const kept = await request(nginx, `/app-${hash}.js`);
  expect(kept.headers).toMatchObject({ 'content-type': expect.stringMatching(/^text\/javascript/) });
  expect(kept.headers['cache-control']).toBe('max-age=315360000');
  expect((await request(nginx, '/app-facade.js')).headers['cache-control']).toBe('no-cache');
});

test('no path leads out of the static files', async () => {
  const nginx = await startNginx(join(temporaryDirectory(), 'nobody.sock'));
  for (const path of [
    '/../package.json',
    '/..%2fpackage.json',
    '/%2e%2e/%2e%2e/package.json',
    '/static/../../routes.ts',
  ]) {
    expect([400, 502]).toContain((await request(nginx, path)).status);
  }
});

describe('in front of the app', () => {
  test('500 parallel visits to three workers get exactly the next 500 numbers; nothing but visits is counted', async () => {
    const redis = await startRedis();
    const socketPath = join(temporaryDirectory(), 'app.sock');
    const app = await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '3', REDIS_URL: redis.url } });
    const nginx = await startNginx(socketPath);
    const id = 'e'.repeat(32);
    for (const path of ['/favicon.svg', '/favicon.ico', '/robots.txt', '/livez', '/readyz', '/missing']) {
      await request(nginx, path);
    }
    await request(nginx, '/', { method: 'HEAD' });
    expect(await request(nginx, '/')).toMatchObject({ status: 200, body: "I've been seen 1 times.\n" });
    // An id that a client makes up can neither suppress a count nor ask for an old number.
    for (const number of [2, 3]) {
      const { body } = await request(nginx, '/', { headers: { 'X-Request-ID': id } });
      expect(numberIn(body)).toBe(number);
    }
    const answers = await Promise.all(upTo(500).map(() => request(nginx)));
    const numbers = answers.map(({ body }) => numberIn(body)).sort((a, b) => a - b);
    expect(numbers).toEqual(upTo(500).map((number) => number + 3));
    const lines = await waitFor(() => {
      const visits = nginx.accessLog().filter(({ uri, method }) => uri === '/' && method === 'GET');
      return visits.length === 503 && visits;
    }, 'the access log');
    for (const { worker } of lines) expect(app.workers().map(String)).toContain(worker?.split(':')[1]);
  });

  test('workers that die, a reload and a killed Redis under load: every visit is answered, and counted once', async () => {
    const redis = await startRedis({ appendOnly: true });
    const socketPath = join(temporaryDirectory(), 'app.sock');
    const app = await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '2', REDIS_URL: redis.url } });
    const nginx = await startNginx(socketPath);
    const load = startLoad(nginx, 16);
    const more = async (visits: number) => {
      const before = load.tally.numbers.length;
      await waitFor(() => load.tally.numbers.length >= before + visits, `${visits} visits`);
    };
    for (let i = 0; i < 2; i++) {
      await more(80);
      const before = app.workers();
      process.kill(before[0] as number, 'SIGKILL');
      await waitFor(async () => {
        const { headers } = await request(app.address, '/livez');
        return !before.includes(Number(String(headers['x-worker']).split(':')[1]));
      }, 'the replacement to answer');
    }
    await redis.kill();
    await redis.start();
    await more(80);
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/);
    await more(80);
    const { numbers, statuses, errors } = await load.stop();
    expect({ errors, statuses }).toEqual({ errors: [], statuses: { 200: numbers.length } });
    expect(numbers.toSorted((a, b) => a - b)).toEqual(upTo(numbers.length));
    expect(await redis.command('GET', 'visits')).toBe(String(numbers.length));
  });
});
