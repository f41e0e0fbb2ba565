import { createServer } from 'node:http';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { atEnd, root, startProcess, stopAll, temporaryDirectory } from '../support/processes.ts';

afterEach(stopAll);

test('the health check asks whether the service is ready until it is, then whether it is alive', async () => {
  const asked: string[] = [];
  const statuses: Record<string, number> = { '/readyz': 503, '/livez': 200 };
  const server = createServer(({ url = '', headers }, res) => {
    asked.push(`${url} ${headers['x-private']}`);
    res.writeHead(statuses[url] as number, { 'X-Worker': `${hostname()}:1` }).end();
  });
  const TMPDIR = temporaryDirectory();
  const LISTEN = join(TMPDIR, 'app.sock');
  await new Promise<void>((resolve) => server.listen(LISTEN, resolve));
  atEnd(() => server.close());
  async function check(): Promise<number | null> {
    const file = join(root, 'deploy/healthcheck.cjs');
    const { exited } = startProcess(process.execPath, [file], { env: { TMPDIR, LISTEN } });
    return (await exited).code;
  }

  expect(await check()).toBe(1);
  statuses['/readyz'] = 200;
  expect(await check()).toBe(0);
  statuses['/readyz'] = 503; // what it depends on is away
  expect(await check()).toBe(0);
  statuses['/livez'] = 500;
  expect(await check()).toBe(1);
  expect(asked).toEqual(['/readyz 1', '/readyz 1', '/livez 1', '/livez 1']);
});
