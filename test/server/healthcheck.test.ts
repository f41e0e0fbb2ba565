import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../support/app.ts';
import { atEnd, root, startProcess, stopAll, temporaryDirectory } from '../support/processes.ts';
import { request } from '../support/requests.ts';

afterEach(stopAll);

async function check(env: { TMPDIR: string; LISTEN: string }): Promise<number | null> {
  const { exited } = startProcess(process.execPath, [join(root, 'deploy/healthcheck.cjs')], { env });
  return (await exited).code;
}

test('the health check asks whether the service is ready until it is, then whether it is alive', async () => {
  const asked: string[] = [];
  const statuses: Record<string, number> = { '/readyz': 503, '/metrics': 200 };
  const server = createServer(({ url = '', headers }, res) => {
    asked.push(`${url} ${headers['x-private']}`);
    res.writeHead(statuses[url] as number, { 'X-Worker': `${hostname()}:1` }).end();
  });
  const TMPDIR = temporaryDirectory();
  const LISTEN = join(TMPDIR, 'app.sock');
  await new Promise<void>((resolve) => server.listen(LISTEN, resolve));
  atEnd(() => server.close());
  expect(await check({ TMPDIR, LISTEN })).toBe(1);
  statuses['/readyz'] = 200;
  expect(await check({ TMPDIR, LISTEN })).toBe(0);
  statuses['/readyz'] = 503; // what it depends on is away
  expect(await check({ TMPDIR, LISTEN })).toBe(0);
  statuses['/metrics'] = 500;
  expect(await check({ TMPDIR, LISTEN })).toBe(1);
  expect(asked).toEqual(['/readyz 1', '/readyz 1', '/metrics 1', '/metrics 1']);
});

test('a service whose primary process hangs is not healthy, although its workers answer', async () => {
  const TMPDIR = temporaryDirectory();
  const LISTEN = join(TMPDIR, 'app.sock');
  const app = await startApp({ env: { LISTEN, WEB_CONCURRENCY: '1' }, backed: true });
  expect(await check({ TMPDIR, LISTEN })).toBe(0); // ready
  expect(await check({ TMPDIR, LISTEN })).toBe(0); // alive
  app.kill('SIGSTOP');
  expect(await request(app.address, '/livez')).toMatchObject({ status: 200 });
  expect(await check({ TMPDIR, LISTEN })).toBe(1);
});
