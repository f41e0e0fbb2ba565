/** Rules for a path: nginx inherits lists whole or not at all, so one line in a location drops all inherited ones. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  request as send,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { type Nginx, startNginx } from '../support/nginx.ts';
import { root, stopAll, temporaryDirectory } from '../support/processes.ts';
import { request } from '../support/requests.ts';

/** What a location needs that has a line of a kind. */
const companions: Record<string, string[]> = {
  proxy_set_header: ['include proxy-headers.conf;'],
  proxy_hide_header: ['include proxy-headers.conf;'],
  add_header: ['include response-headers.conf;'],
  limit_conn: ['limit_conn clients 256;'],
  error_page: ['error_page 501 = @malformed;', 'error_page 429 = @full;'],
};

/** For each block that drops what it should inherit, a sentence that says what to write. */
function findDropped(configuration: string): string[] {
  const complaints: string[] = [];
  const open: { name: string; lines: string[] }[] = [];
  const text = configuration.replace(/(^|\s)#.*$/gm, '').replace(/\s+/g, ' ');
  for (const [, words = '', end] of text.matchAll(/((?:"[^"]*"|'[^']*'|[^;{}"'])*)([;{}])/g)) {
    if (end === '{') open.push({ name: words.trim(), lines: [] });
    else if (end === ';') open.at(-1)?.lines.push(`${words.trim()};`);
    else {
      const { name, lines } = open.pop() as (typeof open)[number];
      for (const [directive, needed] of Object.entries(companions)) {
        if (!lines.some((line) => line.startsWith(`${directive} `))) continue;
        const missing = needed.filter((line) => !lines.includes(line));
        if (missing.length === 0) continue;
        complaints.push(
          `${name}: its ${directive} drops every inherited one. Write there, too: ${missing.join(' ')}`,
        );
      }
    }
  }
  return complaints;
}

const folder = join(root, 'src/app');
test('no location of src/app/*.conf drops what it should inherit', () => {
  const files = readdirSync(folder).filter((file) => file.endsWith('.conf'));
  expect(files.flatMap((file) => findDropped(readFileSync(join(folder, file), 'utf8')))).toEqual([]);
});

test.each([
  ['proxy_set_header Accept-Language en;', 'include proxy-headers.conf;'],
  ['proxy_hide_header X-Powered-By;', 'include proxy-headers.conf;'],
  ['add_header X-One "a; b {";', 'include response-headers.conf;'],
  ['limit_conn clients 9;', 'limit_conn clients 256;'],
  ['error_page 404 /404.html;', 'error_page 501 = @malformed; error_page 429 = @full;'],
])('a location with %s is refused unless it has %s', (line, needed) => {
  const [directive] = line.split(' ');
  expect(findDropped(`# one\nlocation = /one { ${line} # two\n proxy_pass http://app; }`)).toEqual([
    `location = /one: its ${directive} drops every inherited one. Write there, too: ${needed}`,
  ]);
  expect(findDropped(`location /a { ${needed} location /a/b { ${line} } }`)).toHaveLength(1);
  expect(findDropped(`location = /one { ${needed} ${line} proxy_pass http://app; }`)).toEqual([]);
});

let upstream: Server | undefined;
afterEach(async () => {
  await stopAll();
  upstream?.closeAllConnections();
  upstream?.close();
});

/** nginx with these rules, in front of a server at a unix socket and at a port. */
async function startWith(rules: (port: number) => string, handle: RequestListener): Promise<Nginx> {
  const socketPath = join(temporaryDirectory(), 'app.sock');
  upstream = createServer(handle);
  const onUpgrade = (req: IncomingMessage, socket: Socket) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${req.headers.upgrade}\r\nConnection: upgrade\r\n\r\n`,
    );
    socket.write(`${req.headers['x-request-id']} ${req.headers['x-forwarded-for']} `);
    socket.on('error', () => {}).pipe(socket);
  };
  const atPort = createServer().on('upgrade', onUpgrade);
  await new Promise<void>((resolve) => upstream?.listen(socketPath, resolve));
  await new Promise<void>((resolve) => atPort.listen(0, '127.0.0.1', resolve));
  upstream.on('close', () => atPort.close());
  const app = join(temporaryDirectory(), 'rules.conf');
  writeFileSync(app, rules((atPort.address() as AddressInfo).port));
  return startNginx(socketPath, { included: { app } });
}

test('a location with headers of its own and what goes with them has all the others, too', async () => {
  const seen: IncomingMessage[] = [];
  const nginx = await startWith(
    () => `location = /one {
      include proxy-headers.conf; include response-headers.conf; client_max_body_size 1m;
      proxy_set_header Accept-Language en; add_header X-One 1;
      proxy_pass http://app;
    }`,
    (req, res) => {
      seen.push(req);
      req.resume().on('end', () => res.end('fine'));
    },
  );
  const forged = { 'X-Request-ID': 'd'.repeat(32), 'X-Forwarded-For': '6.6.6.6', 'X-Private': '1' };
  const body = 'x'.repeat(500_000);
  const answer = await request(nginx, '/one', { method: 'POST', headers: forged, body });
  expect(answer).toMatchObject({
    status: 200,
    headers: { 'x-one': '1', 'x-content-type-options': 'nosniff' },
  });
  expect(seen[0]?.headers).toMatchObject({
    'accept-language': 'en',
    'x-request-id': answer.headers['x-request-id'],
    'x-forwarded-for': '127.0.0.1',
  });
  expect(answer.headers['x-request-id']).not.toBe(forged['X-Request-ID']);
  expect(seen[0]?.headers).not.toHaveProperty('x-private');
});

test('the location for WebSockets in docs/nginx.md passes an upgrade on, and both directions after it', async () => {
  const page = readFileSync(join(root, 'docs/nginx.md'), 'utf8');
  const [rule = ''] = /^location = \/chat \{[\s\S]*?^\}/m.exec(page) ?? [];
  expect(rule).toContain('http://chat:3000;');
  expect(findDropped(rule)).toEqual([]);
  const nginx = await startWith(
    (port) => rule.replace('chat:3000', `127.0.0.1:${port}`),
    (_, res) => res.end(),
  );
  const headers = { Connection: 'upgrade', Upgrade: 'websocket', 'X-Request-ID': 'd'.repeat(32) };
  const text = await new Promise<string>((resolve, reject) => {
    const asking = send({ port: nginx.port, path: '/chat', headers });
    asking.on('error', reject).on('response', ({ statusCode }) => reject(new Error(`${statusCode}`)));
    asking.on('upgrade', (_, socket, head) => {
      let received = head.toString();
      socket.write('there and back');
      socket.on('data', (part) => {
        received += part;
        if (!received.endsWith('back')) return;
        socket.destroy();
        resolve(received);
      });
    });
    asking.end();
  });
  expect(text).toMatch(/^(?!d+ )[0-9a-f]{32} 127\.0\.0\.1 there and back$/);
});
