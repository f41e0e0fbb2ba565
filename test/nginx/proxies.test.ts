import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type Nginx, nginxArguments, startNginx } from '../support/nginx.ts';
import { atEnd, startProcess, stopAll, temporaryDirectory } from '../support/processes.ts';
import { type Address, freePort, request } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

const page = readFileSync('docs/proxies.md', 'utf8');

let upstream: Server;
let socketPath: string;
let handle: RequestListener;
const seen: IncomingHttpHeaders[] = [];

beforeEach(async () => {
  seen.length = 0;
  handle = (_, res) => res.end('fine');
  upstream = createServer((req, res) => {
    seen.push(req.headers);
    handle(req, res);
  });
  socketPath = join(temporaryDirectory(), 'app.sock');
  await new Promise<void>((resolve) => upstream.listen(socketPath, resolve));
});
afterEach(async () => {
  await stopAll();
  upstream.closeAllConnections();
  upstream.close();
});

/** nginx that includes these lines as the file that names proxies. */
function startBehind(lines: string): Promise<Nginx> {
  const file = join(temporaryDirectory(), 'proxies.conf');
  writeFileSync(file, lines);
  return startNginx(socketPath, { included: { proxies: file } });
}

/** An nginx that ends TLS, as the page says; what it would know of TLS is put in its place. */
async function startFront(to: number): Promise<Address> {
  const [block = ''] = /^ {4}location \/ \{[\s\S]*?^ {4}\}/m.exec(page) ?? [];
  const directory = temporaryDirectory();
  const port = await freePort();
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const file = join(directory, 'front.conf');
  writeFileSync(
    file,
    `pid ${directory}/pid; events {} http { access_log off;
     ${paths.map((path) => `${path}_temp_path ${directory}/${path};`).join(' ')}
     server { listen ${port}; ${block.replace('127.0.0.1:8080', `127.0.0.1:${to}`).replace('$scheme', 'https')} } }`,
  );
  const front = startProcess('nginx', nginxArguments(file, directory));
  atEnd(() => {
    front.kill('SIGTERM');
    return front.exited;
  });
  await waitFor(() => request({ port }).catch(() => false), 'the front to answer');
  seen.length = 0;
  return { port };
}

const forged = { 'X-Forwarded-For': '203.0.113.9', 'X-Forwarded-Proto': 'https' };

test('without a named proxy the client is who connects, and the scheme is http, whatever it says', async () => {
  const nginx = await startNginx(socketPath);
  const { headers } = await request(nginx, '/', { headers: forged });
  expect(seen[0]).toMatchObject({ 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http' });
  expect(headers).not.toHaveProperty('strict-transport-security');
  const line = await waitFor(() => nginx.accessLog()[0], 'the line');
  expect(line).toMatchObject({ client: '127.0.0.1' });
});

test('a proxy that is not among those named is a client', async () => {
  const nginx = await startBehind('set_real_ip_from 198.51.100.0/24;');
  await request(nginx, '/', { headers: forged });
  expect(seen[0]).toMatchObject({ 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'http' });
});

test('a named proxy tells the client and the scheme; what the client said before is not believed', async () => {
  const nginx = await startBehind('set_real_ip_from 127.0.0.1;\nset_real_ip_from 198.51.100.0/24;');
  const headers = { ...forged, 'X-Forwarded-For': '6.6.6.6, 203.0.113.9, 198.51.100.7' };
  const answer = await request(nginx, '/', { headers });
  expect(seen[0]).toMatchObject({ 'x-forwarded-for': '203.0.113.9', 'x-forwarded-proto': 'https' });
  expect(answer.headers['strict-transport-security']).toMatch(/^max-age=\d{8}$/);
  const line = await waitFor(() => nginx.accessLog()[0], 'the line');
  expect(line).toMatchObject({ client: '203.0.113.9' });
  const plain = await request(nginx, '/', { headers: { ...headers, 'X-Forwarded-Proto': 'http' } });
  expect(plain.headers).not.toHaveProperty('strict-transport-security');
  expect(seen[1]).toMatchObject({ 'x-forwarded-proto': 'http' });
  // Of a list the first one counts, which is the client's: as in Koa.
  for (const [i, [said, told]] of [
    ['https,http', 'https'],
    ['https, http', 'https'],
    ['http,https', 'http'],
    ['httpsx', 'http'],
  ].entries()) {
    await request(nginx, '/', { headers: { ...headers, 'X-Forwarded-Proto': said as string } });
    expect([said, seen[i + 2]?.['x-forwarded-proto']]).toEqual([said, told]);
  }
});

test('an nginx in front, as docs/proxies.md has it: the client, the scheme, the host and the answer arrive', async () => {
  const nginx = await startBehind('set_real_ip_from 127.0.0.1;');
  const front = await startFront(nginx.port);
  const headers = { Host: 'example.org', 'X-Forwarded-For': '203.0.113.9', 'X-Forwarded-Proto': 'gopher' };
  const answer = await request(front, '/', { headers });
  expect(answer).toMatchObject({ status: 200, body: 'fine' });
  expect(answer.headers['strict-transport-security']).toMatch(/^max-age=/);
  expect(seen[0]).toMatchObject({
    host: 'example.org',
    'x-forwarded-host': 'example.org',
    'x-forwarded-proto': 'https',
    'x-forwarded-for': '203.0.113.9', // 127.0.0.1, which follows it, is a proxy
  });
});

/** Opens connections whose request begins and does not end; resolves when each was closed or stays open. */
async function openSlow(port: number, count: number, headers: string): Promise<{ open(): number }> {
  let open = 0;
  const sockets = Array.from({ length: count }, (): Socket => {
    const socket = connect(port, '127.0.0.1', () => {
      open += 1;
      socket.write(`POST / HTTP/1.1\r\nHost: here\r\n${headers}Content-Length: 16384\r\n\r\n`);
    });
    return socket
      .on('error', () => {})
      .on('close', () => {
        open -= 1;
      });
  });
  atEnd(() => {
    for (const socket of sockets) socket.destroy();
  });
  await waitFor(() => sockets.every(({ connecting }) => !connecting), 'the connections');
  return { open: () => open };
}

test('a client behind a named proxy keeps 256 connections; the others are closed at once, and nobody else pays', async () => {
  const nginx = await startBehind('set_real_ip_from 127.0.0.1;');
  const slow = await openSlow(nginx.port, 600, 'X-Forwarded-For: 203.0.113.9\r\n');
  await waitFor(() => slow.open() === 256, 'the others to be closed', 5_000);
  const ask = (client: string) => request(nginx, '/', { headers: { 'X-Forwarded-For': client } });
  expect(await ask('203.0.113.10')).toMatchObject({ status: 200 });
  await expect(ask('203.0.113.9')).rejects.toThrow();
  const refused = nginx.accessLog().filter(({ status }) => status === '444');
  expect(refused).toHaveLength(600 - 256 + 1);
  expect(refused[0]).toMatchObject({ client: '203.0.113.9' });
  expect(slow.open()).toBe(256);
});

test('without a named proxy 500 requests of one address are all served at once', async () => {
  const held: (() => void)[] = [];
  handle = (_, res) => held.push(() => res.end('fine'));
  const nginx = await startNginx(socketPath);
  const answers = Array.from({ length: 500 }, () => request(nginx));
  await waitFor(() => held.length === 500, 'all 500 to be with the app');
  for (const end of held) end();
  expect(new Set((await Promise.all(answers)).map(({ status }) => status))).toEqual(new Set([200]));
});

test('clients that connect themselves are limited by the lines that docs/proxies.md gives for it', async () => {
  const lines = page.split('\n').filter((line) => /^ {4}limit_conn/.test(line));
  expect(lines).toHaveLength(2);
  const nginx = await startBehind(lines.join('\n'));
  const slow = await openSlow(nginx.port, 300, '');
  await waitFor(() => slow.open() === 256, 'the others to be closed', 5_000);
});
