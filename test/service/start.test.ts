import { statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import {
  type App,
  copyRepository,
  freePort,
  killIfRunning,
  request,
  spawnApp,
  startApp,
  startLoad,
  stopAll,
  temporaryDirectory,
  waitFor,
} from '../processes.ts';

afterEach(stopAll);

/** Makes the primary tell of each fork. */
function announceForks(): string[] {
  const file = join(temporaryDirectory(), 'announce-forks.cjs');
  writeFileSync(
    file,
    `const cluster = require('node:cluster');
     if (cluster.isPrimary) {
       const { fork } = cluster;
       cluster.fork = (...args) => { console.log('forked'); return fork.apply(cluster, args); };
     }`,
  );
  return ['--require', file];
}

test('a bad configuration is one message that names every wrong variable, an exit code, and no fork', async () => {
  const nodeArguments = announceForks();
  const good = await startApp({ env: { WEB_CONCURRENCY: '2' }, nodeArguments });
  expect(good.output().match(/^forked$/gm)).toHaveLength(2); // it would be seen
  const env = { LISTEN: '99999', WEB_CONCURRENCY: 'many', REDIS_URL: 'localhost', LOG_LEVEL: 'loud' };
  const bad = await spawnApp({ env, nodeArguments });
  expect(await bad.exited).toEqual({ code: 1, signal: null });
  expect(bad.output().trimEnd().split('\n')).toEqual([
    'bad configuration',
    expect.stringMatching(/^ {2}LISTEN is "99999"; right would be a port/),
    expect.stringMatching(/^ {2}WEB_CONCURRENCY is "many"; right would be a whole number from 1/),
    expect.stringMatching(/^ {2}REDIS_URL is "localhost"; right would be redis:\/\//),
    expect.stringMatching(/^ {2}LOG_LEVEL is "loud"; right would be one of debug/),
  ]);
});

test('what cannot start ends after some tries, further and further apart, with the reason as its last line', async () => {
  const port = createServer();
  await new Promise<void>((resolve) => port.listen(0, resolve));
  const { port: taken } = port.address() as { port: number };
  const copy = copyRepository('dist');
  writeFileSync(join(copy, 'dist/worker.js'), "throw new Error('of no use');");
  const directory = temporaryDirectory();
  try {
    const [broken, occupied, nowhere] = await Promise.all([
      spawnApp({ env: { WEB_CONCURRENCY: '2' }, entry: join(copy, 'dist/main.js') }),
      spawnApp({ env: { WEB_CONCURRENCY: '1', LISTEN: String(taken) } }),
      spawnApp({ env: { WEB_CONCURRENCY: '1', LISTEN: join(directory, 'missing/app.sock') } }),
    ]);
    const lastLineOf = async (app: App) => {
      await app.waitForLog(/^giving up/);
      expect(await app.exited).toEqual({ code: 1, signal: null });
      const last = JSON.parse(app.output().trimEnd().split('\n').at(-1) as string);
      expect(last.level).toBe('fatal');
      expect(app.log().filter(({ level }) => level === 'fatal')).toHaveLength(1);
      return last.msg;
    };
    expect(await lastLineOf(broken)).toMatch(/^giving up: 6 workers in a row died.*of no use/);
    expect(await lastLineOf(occupied)).toMatch(/^giving up: .*EADDRINUSE/);
    expect(await lastLineOf(nowhere)).toMatch(/^giving up: .*(ENOENT|EACCES)/);
    const deaths = broken
      .log()
      .filter(({ msg }) => msg.includes('died before it listened'))
      .map(({ time }) => Date.parse(time));
    expect(deaths).toHaveLength(6);
    // The first two came together; then each pause is twice the one before.
    const pauses = deaths.slice(1).map((time, i) => time - (deaths[i] as number));
    for (const [i, least] of [200, 400, 800, 1_600].entries()) {
      expect(pauses[i + 1]).toBeGreaterThanOrEqual(least);
    }
  } finally {
    port.close();
  }
});

test('a stop between two tries to start ends at once', async () => {
  const copy = copyRepository('dist');
  writeFileSync(join(copy, 'dist/worker.js'), "throw new Error('of no use');");
  const app = await spawnApp({ env: { WEB_CONCURRENCY: '1' }, entry: join(copy, 'dist/main.js') });
  await app.waitForLog(/died before it listened/, { nth: 4 });
  app.kill('SIGTERM');
  expect((await app.exited).signal).toBeNull();
  expect(app.log().filter(({ msg }) => /died before/.test(msg))).toHaveLength(4);
});

test('a file that is no socket where LISTEN points to is refused, and left as it was', async () => {
  const path = join(temporaryDirectory(), 'app.sock');
  writeFileSync(path, 'precious');
  const app = await spawnApp({ env: { LISTEN: path } });
  expect(await app.exited).toEqual({ code: 1, signal: null });
  expect(app.output()).toBe(
    `bad configuration\n  LISTEN is ${path}, where there is a file that is not a socket\n`,
  );
  expect(statSync(path).size).toBe(8);
});

test('a socket whose processes were killed is no obstacle to the next start', async () => {
  const path = join(temporaryDirectory(), 'app.sock');
  const killed = await startApp({ env: { LISTEN: path, WEB_CONCURRENCY: '1' } });
  const workers = killed.workers();
  killed.kill('SIGKILL');
  for (const pid of workers) killIfRunning(pid, 'SIGKILL');
  const refusal = () => request({ socketPath: path }).catch(({ code }) => code === 'ECONNREFUSED');
  await waitFor(async () => (await refusal()) === true, 'nobody to listen');
  const next = await startApp({ env: { LISTEN: path, WEB_CONCURRENCY: '1' } });
  expect(await request(next.address)).toMatchObject({ status: 200 });
  expect(statSync(path).mode & 0o777).toBe(0o666); // nginx runs as another user
});

test('a second app on the same socket takes over, and no visit fails', async () => {
  const path = join(temporaryDirectory(), 'app.sock');
  const env = { LISTEN: path, WEB_CONCURRENCY: '1' };
  const first = await startApp({ env });
  const load = startLoad(first.address, 4, { keepAlive: false });
  await waitFor(() => load.tally.numbers.length > 50, '50 visits');
  const second = await startApp({ env });
  const more = async () => {
    const answered = load.tally.numbers.length;
    await waitFor(() => load.tally.numbers.length > answered + 50, '50 visits more');
  };
  await more(); // by now the first has accepted all that connected to it
  first.kill('SIGTERM');
  expect(await first.exited).toEqual({ code: 0, signal: null });
  await more();
  const { errors, statuses } = await load.stop();
  expect({ errors, statuses: Object.keys(statuses) }).toEqual({ errors: [], statuses: ['200'] });
  const { headers } = await request({ socketPath: path });
  expect(second.workers().map(String)).toContain(String(headers['x-worker']).split(':')[1]);
});

test('it can listen on one address alone', async () => {
  const port = await freePort();
  const app = await startApp({ env: { LISTEN: `127.0.0.1:${port}`, WEB_CONCURRENCY: '1' } });
  expect(await request({ port })).toMatchObject({ status: 200 });
  expect(app.log().at(-1)?.msg).toMatch(`serving http://127.0.0.1:${port} from 1 worker;`);
  await expect(request({ host: '127.0.0.2', port })).rejects.toThrow();
});
