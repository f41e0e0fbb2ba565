import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import Koa from 'koa';
import { requestTimeout } from '../../src/server/http-server.ts';
import { serveFiles } from '../../src/server/static-files.ts';
import { startApp } from '../support/app.ts';
import { expectFlawless, startLightLoad } from '../support/load.ts';
import {
  checkNginx,
  type Nginx,
  nginxArguments,
  startNginx,
  writeNginxConfiguration,
} from '../support/nginx.ts';
import { atEnd, root, startProcess, stopAll, temporaryDirectory } from '../support/processes.ts';
import { type Address, freePort, request, workerOf } from '../support/requests.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { delay, waitFor } from '../support/wait.ts';

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

describe('in front of a server that tells what reaches it', () => {
  const routes = `
    location = /again { proxy_next_upstream error timeout non_idempotent; proxy_pass http://app; }
    location = /stream { proxy_buffering off; proxy_pass http://app; }`;
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
    const app = join(temporaryDirectory(), 'routes.conf');
    writeFileSync(app, routes);
    nginx = await startNginx(socketPath, { included: { app } });
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
      'X-Real-IP': '6.6.6.6',
      Proxy: 'http://evil.example',
      Connection: 'close',
    });
    expect(seen[0]?.headers).toMatchObject({
      host: 'example.org:8080',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'example.org:8080',
    });
    for (const name of ['forwarded', 'x-real-ip', 'proxy']) {
      expect(seen[0]?.headers).not.toHaveProperty(name);
    }
    expect(seen[0]?.headers.connection).not.toBe('close');
  });

  test('connections to the app are kept: each serves many requests', async () => {
    for (let i = 0; i < 30; i++) await ask();
    // One of each worker of nginx; a few more where the machine pauses for longer than nginx keeps an idle one (200 ms).
    expect(new Set(seen.map(({ socket }) => socket)).size).toBeLessThanOrEqual(availableParallelism() + 5);
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

  test.each(['POST', 'PUT', 'DELETE', 'PATCH'])(
    'a %s, which may change something, is tried once; where the app lists its path, again',
    async (method) => {
      handle = (req) => req.socket.destroy();
      expect(await ask('/', {}, { method, body: 'once' })).toMatchObject({ status: 502 });
      expect(seen).toHaveLength(1);
      handle = (req, res) => (seen.length === 2 ? req.socket.destroy() : res.end('fine'));
      expect(await ask('/again', {}, { method, body: 'again' })).toMatchObject({ status: 200 });
      expect(seen).toHaveLength(3);
    },
  );

  test('what takes too long is answered by 504 and not sent again; where the app lists its path, it is', async () => {
    handle = () => {};
    expect(await ask('/slow')).toMatchObject({ status: 504 });
    expect(seen).toHaveLength(1);
    handle = (_, res) => (seen.length === 2 ? undefined : res.end('fine'));
    expect(await ask('/again')).toMatchObject({ status: 200 });
    expect(seen).toHaveLength(3);
  });

  test('where the app lists a stream, nginx queues nothing for a client that does not read', async () => {
    let taken = false;
    handle = (_, res) => {
      res.write(Buffer.alloc(32 << 20), () => {
        taken = true;
      });
    };
    for (const [path, queues] of [
      ['/stream', false],
      ['/other', true],
    ] as const) {
      taken = false;
      const socket = connect(nginx.port, '127.0.0.1').pause();
      socket.write(`GET ${path} HTTP/1.1\r\nHost: here\r\n\r\n`);
      if (queues) await waitFor(() => taken, 'the answer to be queued');
      else await delay(1_500);
      expect(taken).toBe(queues);
      socket.destroy();
    }
  });

  test.each([
    ['HTTP/1.0 without a host', 'GET / HTTP/1.0\r\n\r\n', 'localhost'],
    [
      'a host with a port',
      'GET / HTTP/1.1\r\nHost: Example.org:81\r\nConnection: close\r\n\r\n',
      'Example.org:81',
    ],
    ['a host in brackets', 'GET / HTTP/1.1\r\nHost: [::1]:81\r\nConnection: close\r\n\r\n', '[::1]:81'],
    [
      'a host in the request line, which counts',
      'GET http://shop.example/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
      'shop.example',
    ],
    ['no port', 'GET / HTTP/1.1\r\nHost: evil.example:80@shop\r\nConnection: close\r\n\r\n', 'evil.example'],
  ])('%s: answered, and the app is told one host', async (_, bytes, host) => {
    const socket = connect(nginx.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', (part) => {
      text += part;
    });
    socket.write(bytes);
    await new Promise((resolve) => socket.once('close', resolve));
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(seen[0]?.headers).toMatchObject({ host, 'x-forwarded-host': host });
  });

  test.each([
    ['a body of more than 16 k', '/', {}, 413, 'x'.repeat(16 * 1024 + 1)],
    ['a header of more than 8 k', '/', { 'X-Large': 'x'.repeat(8 * 1024) }, 400, undefined],
    ['an address of more than 8 k', `/${'x'.repeat(8 * 1024)}`, {}, 414, undefined],
    [
      'a head of more than 16 k',
      '/',
      Object.fromEntries(['X-A', 'X-B', 'X-C'].map((name) => [name, 'x'.repeat(6_000)])),
      431,
      undefined,
    ],
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

  test.each(['/', '/file.txt', '/missing'])(
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

  test('a header that the app sets itself is the only one of its name', async () => {
    const own = {
      'content-security-policy': "default-src 'none'",
      'referrer-policy': 'no-referrer',
      'strict-transport-security': 'max-age=60',
      'x-content-type-options': 'nosniff',
    };
    handle = (_, res) => res.writeHead(200, { ...own, 'X-Request-ID': 'its own' }).end();
    const { headers } = await ask(); // node:http would join two of a name
    expect(headers).toMatchObject(own);
    expect(headers['x-request-id']).toBe(seen[0]?.headers['x-request-id']);
  });

  test('headers of an answer may be almost 8 kB long', async () => {
    handle = (_, res) =>
      res
        .setHeader(
          'Set-Cookie',
          ['a', 'b'].map((name) => `${name}=${'x'.repeat(3_900)}`),
        )
        .end('fine');
    expect(await ask()).toMatchObject({ status: 200, body: 'fine' });
    handle = (_, res) => res.setHeader('Set-Cookie', `a=${'x'.repeat(9_000)}`).end('fine');
    expect(await ask()).toMatchObject({ status: 502 });
  });

  test.each(['localhost:8080', '127.0.0.1:8080', 'name-8080.app.github.dev', 'example.org'])(
    'nobody else may frame the page, even if the client asks for %s',
    async (host) => {
      const { headers } = await ask('/', { Host: host });
      expect(headers['content-security-policy']).toMatch(/frame-ancestors 'self'$/);
    },
  );

  test('in the dev container a preview pane may show the page', async () => {
    const included = { frames: join(root, '.devcontainer/frames.conf') };
    const nginx = await startNginx(upstream.address() as unknown as string, { included });
    const { headers } = await request(nginx, '/');
    expect(headers['content-security-policy']).toMatch(/frame-ancestors \*$/);
  });

  test('the dev container answers by its own names, not by one that a stranger has lead here', async () => {
    const included = { app: join(root, '.devcontainer/hosts.conf') };
    const nginx = await startNginx(upstream.address() as unknown as string, { included });
    const hosts = [
      'localhost:8080',
      'app.localhost',
      '127.0.0.1:8080',
      '[::1]:8080',
      'nginx',
      'a-8080.app.github.dev',
    ];
    for (const Host of [...hosts, 'example.org', 'github.dev.example.org', '127.0.0.1.example.org']) {
      const { status } = await request(nginx, '/file.txt', { headers: { Host } });
      expect([Host, status]).toEqual([Host, hosts.includes(Host) ? 200 : 421]);
    }
  });

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
  const files = temporaryDirectory();
  writeFileSync(join(files, 'icon.svg'), '<svg/>');
  const nginx = await startNginx(join(files, 'nobody.sock'), { files });
  const { status, headers, body } = await request(nginx, '/icon.svg');
  expect({ status, body }).toEqual({ status: 200, body: '<svg/>' });
  expect(headers).toMatchObject({ 'content-type': 'image/svg+xml', 'cache-control': 'no-cache' });
  const again = await request(nginx, '/icon.svg', { headers: { 'If-None-Match': headers.etag as string } });
  expect(again).toMatchObject({ status: 304, body: '' });
  expect(await request(nginx, '/')).toMatchObject({ status: 502 }); // the app is away
});

test('a file has the same type from nginx and, where nginx is not there, from the app', async () => {
  const files = temporaryDirectory();
  const types = readFileSync('deploy/nginx/mime.types', 'utf8').replace(/^[\s\S]*types \{/, '');
  const extensions = [...types.matchAll(/^ +\S+ +([^;]+);/gm)].flatMap(([, list = '']) => list.split(' '));
  expect(extensions.length).toBeGreaterThan(40);
  const names = [...extensions, 'unknown'].map((extension) => `a.${extension}`);
  for (const name of names) writeFileSync(join(files, name), '');
  const koa = new Koa();
  koa.use(serveFiles({ root: files, framed: false }));
  const alone = createServer(koa.callback());
  await new Promise<void>((resolve) => alone.listen(0, '127.0.0.1', resolve));
  atEnd(() => alone.close());
  const { port } = alone.address() as AddressInfo;
  const nginx = await startNginx(join(files, 'nobody.sock'), { files });
  const typesFrom = (to: Address) =>
    Promise.all(names.map(async (name) => [name, (await request(to, `/${name}`)).headers['content-type']]));
  expect(await typesFrom(nginx)).toEqual(await typesFrom({ port }));
});

test('a static file whose name has a hash of its content is kept for good', async () => {
  const files = temporaryDirectory();
  const hash = createHash('sha256').update('let it be').digest('hex').slice(0, 8);
  writeFileSync(join(files, `app-${hash}.js`), 'let it be');
  writeFileSync(join(files, 'app-facade.js'), 'no hash');
  const nginx = await startNginx(join(files, 'nobody.sock'), { files });
  const kept = await request(nginx, `/app-${hash}.js`);
  expect(kept.headers).toMatchObject({ 'content-type': expect.stringMatching(/^text\/javascript/) });
  expect(kept.headers['cache-control']).toBe('max-age=315360000');
  expect((await request(nginx, '/app-facade.js')).headers['cache-control']).toBe('no-cache');
});

test('a static file that is there in its compressed form, too, is sent in that form', async () => {
  const files = temporaryDirectory();
  writeFileSync(join(files, 'app.js'), 'as it is');
  writeFileSync(join(files, 'app.js.gz'), 'compressed before');
  const nginx = await startNginx(join(files, 'nobody.sock'), { files });
  const sent = await request(nginx, '/app.js', { headers: { 'Accept-Encoding': 'gzip' } });
  expect(sent.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Accept-Encoding' });
  expect(sent.body).toBe('compressed before');
  expect((await request(nginx, '/app.js')).body).toBe('as it is');
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
  test('500 parallel requests to three workers are all answered, each with a line that names its worker', async () => {
    const socketPath = join(temporaryDirectory(), 'app.sock');
    const entry = join(copyWithTestService(), 'dist/main.js');
    const app = await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '3' }, entry });
    const nginx = await startNginx(socketPath);
    const answers = await Promise.all(upTo(500).map(() => request(nginx)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    const lines = await waitFor(() => {
      const all = nginx.accessLog();
      return all.length === 500 && all;
    }, 'the access log');
    for (const { worker } of lines) expect(app.workers().map(String)).toContain(worker?.split(':')[1]);
  });

  test('on a server of its own it reaches the app by TCP, after the one command of docs/deploy.md', async () => {
    const address = `127.0.0.1:${await freePort()}`;
    const entry = join(copyWithTestService(), 'dist/main.js');
    await startApp({ env: { LISTEN: address, WEB_CONCURRENCY: '1', METRICS: 'open' }, entry });
    const directory = temporaryDirectory();
    const port = await freePort();
    const page = readFileSync('docs/deploy.md', 'utf8');
    const [, closed = ''] = /^ {4}(location = \/metrics .*)$/m.exec(page) ?? [];
    const app = join(directory, 'routes.conf');
    writeFileSync(app, closed);
    const included = { app };
    const file = writeNginxConfiguration({ port, socketPath: '/run/app/app.sock', directory, included });
    const [, command = ''] = /sed '(\S+)' deploy\/nginx\.conf/.exec(page) ?? [];
    execFileSync('sed', ['--in-place', command.replace('10.0.0.5:8000', address), file]);
    const nginx = startProcess('nginx', nginxArguments(file, directory));
    atEnd(async () => {
      nginx.kill('SIGTERM');
      await nginx.exited;
    });
    const answers = await waitFor(
      () => Promise.all(upTo(20).map(() => request({ port }))),
      'nginx to answer',
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    for (const path of ['/readyz', '/metrics']) {
      expect((await request({ socketPath: join(directory, 'private.sock') }, path)).status).toBe(200);
    }
    expect((await request({ port }, '/metrics')).status).toBe(404);
  });

  test("a failed request has the same id in the app's log and in that of nginx", async () => {
    const socketPath = join(temporaryDirectory(), 'app.sock');
    const entry = join(copyWithTestService(), 'dist/main.js');
    const app = await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '1' }, entry });
    const nginx = await startNginx(socketPath);
    const { status, headers } = await request(nginx, '/broken');
    expect(status).toBe(500);
    const id = headers['x-request-id'];
    await waitFor(() => nginx.accessLog().find(({ request_id }) => request_id === id), 'the line of nginx');
    expect(app.log().find(({ request_id }) => request_id === id)).toMatchObject({ msg: 'request failed' });
  });

  test('a request that kills its worker is answered 500 and given to no other; what was in flight beside it is', async () => {
    const socketPath = join(temporaryDirectory(), 'app.sock');
    const entry = join(copyWithTestService(), 'dist/main.js');
    const app = await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '2' }, entry });
    const nginx = await startNginx(socketPath);
    const file = join(temporaryDirectory(), 'end');
    const held = upTo(20).map(() => request(nginx, `/held?until=${file}`));
    await waitFor(() => app.workers().length === 2, 'both workers');
    expect(await request(nginx, '/fatal')).toMatchObject({ status: 500, body: 'Internal Server Error' });
    await app.waitForLog(/is replaced/);
    writeFileSync(file, '');
    expect(new Set((await Promise.all(held)).map(({ status }) => status))).toEqual(new Set([200]));
    expect(app.log().filter(({ msg }) => /is replaced/.test(msg))).toHaveLength(1);
  });

  test('workers that die and a reload under load: every request is answered, and rightly', async () => {
    const socketPath = join(temporaryDirectory(), 'app.sock');
    const app = await startApp({ env: { LISTEN: socketPath, WEB_CONCURRENCY: '2' }, backed: true });
    const nginx = await startNginx(socketPath);
    const load = startLightLoad(nginx, 16);
    for (let i = 0; i < 2; i++) {
      await load.waitForAnswers(80);
      const before = app.workers();
      process.kill(before[0] as number, 'SIGKILL');
      await waitFor(
        async () => !before.includes(workerOf(await request(app.address, '/livez'))),
        'the replacement to answer',
      );
    }
    await load.waitForAnswers(80);
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/);
    await load.waitForAnswers(80);
    await expectFlawless(nginx, load);
  });
});

test('the limits of a body in docs/nginx.md are those of the files that set them', () => {
  const read = (file: string) => readFileSync(join(root, file), 'utf8');
  const limit = (file: string, pattern: RegExp) => pattern.exec(read(file))?.[1];
  const page = read('docs/nginx.md');
  const size = limit('deploy/nginx.conf', /client_max_body_size (\d+)k;/);
  const compose = limit('docker-compose.yml', /tmpfs: \/tmp:size=(\d+)m/);
  const pause = limit('deploy/nginx.conf', /client_body_timeout (\d+)s;/);
  expect(page).toContain(`| a body | ${size} kB, else 413 |`);
  expect(page).toContain(`bodies above ${size} kB at one time | ${compose} MB in Compose, `);
  expect(page).toContain(`| ${pause} s between two parts, else 408.`);
  expect(page).toContain(` also ${requestTimeout / 1_000} s in all |`);
});
