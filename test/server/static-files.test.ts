import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import Router from '@koa/router';
import { createHttpApp } from '../../src/server/http-app.ts';
import { atEnd, stopAll } from '../support/processes.ts';
import { request } from '../support/requests.ts';

afterEach(stopAll);

async function serve(framed = false) {
  const router = new Router();
  router.get('/', (ctx) => {
    ctx.body = 'fine\n';
  });
  router.get('/maps', (ctx) => {
    ctx.set('Content-Security-Policy', "default-src 'self'; img-src tiles.test");
    ctx.body = 'wider\n';
  });
  const service = { router, async ready() {}, async close() {} };
  const { koa } = createHttpApp(service, { files: { root: 'src/app/static', framed } });
  const server = createServer(koa.callback());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  atEnd(() => server.close());
  const { port } = server.address() as AddressInfo;
  return async (path: string) => (await request({ port }, path)).headers;
}

/** The values that nginx gives to these headers. */
const nginx = readFileSync('deploy/nginx.conf', 'utf8');
function setByNginx(variable: string): string | undefined {
  const map = new RegExp(`map [^{]+ \\$${variable} \\{\\s+"" (?:"([^"]+)"|([^;"]+));`);
  const [, quoted, plain] = map.exec(nginx) ?? [];
  return (quoted ?? plain)?.replace('$frame_ancestors', "'self'");
}

test.each(['/', '/robots.txt'])('without nginx, %s has the headers that nginx would set', async (path) => {
  const ask = await serve();
  expect(setByNginx('csp')).toMatch(/^default-src 'self'/);
  expect(await ask(path)).toMatchObject({
    'content-security-policy': setByNginx('csp'),
    'x-content-type-options': setByNginx('nosniff'),
    'referrer-policy': setByNginx('referrer_policy'),
  });
});

test('a route that sets a policy of its own keeps the other headers', async () => {
  const ask = await serve();
  expect(await ask('/maps')).toMatchObject({
    'content-security-policy': "default-src 'self'; img-src tiles.test",
    'x-content-type-options': 'nosniff',
  });
});

test('in development an editor may show a page in its preview', async () => {
  const ask = await serve(true);
  expect((await ask('/'))['content-security-policy']).toBe(
    "default-src 'self'; base-uri 'none'; form-action 'self'",
  );
});
