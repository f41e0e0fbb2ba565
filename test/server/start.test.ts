import { spawn } from 'node:child_process';
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { type App, spawnApp, startApp } from '../support/app.ts';
import { required, startBacking } from '../support/judgement.ts';
import { startLightLoad } from '../support/load.ts';
import {
  childrenOf,
  isRunning,
  killIfRunning,
  root,
  startScript,
  stopAll,
  temporaryDirectory,
} from '../support/processes.ts';
import { copyRepository } from '../support/repository.ts';
import { freePort, request, workerOf } from '../support/requests.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { delay, waitFor } from '../support/wait.ts';

afterEach(stopAll);

const graceful = { code: 0, signal: null };

/** Makes the primary report each fork. */
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

test('npm start compiles and serves', async () => {
  const port = await freePort();
  const env = { ...required, ...(await startBacking()), LISTEN: String(port), WEB_CONCURRENCY: '1' };
  const script = startScript('start', { cwd: copyRepository('src', 'tsconfig.json'), env });
  const isAlive = async () => (await request({ port }, '/livez').catch(() => undefined))?.status === 200;
  await waitFor(isAlive, 'an answer', 60_000).catch((cause) => {
    throw new Error(script.output(), { cause });
  });
});

test('a bad configuration is one message that names every wrong variable, an exit code, and no fork', async () => {
  const nodeArguments = announceForks();
  const entry = join(copyWithTestService(), 'dist/main.js');
  const good = await startApp({ env: { WEB_CONCURRENCY: '2', GREETING: 'welcome' }, nodeArguments, entry });
  expect((await request(good.address)).body).toBe('welcome\n');
  expect(good.output().match(/^forked$/gm)).toHaveLength(2); // it would be seen
  const env = { LISTEN: '99999', WEB_CONCURRENCY: 'many', LOG_LEVEL: 'loud', GREETING: 'two words' };
  const bad = await spawnApp({ env, nodeArguments, entry });
  expect(await bad.exited).toEqual({ code: 1, signal: null });
  expect(bad.output().trimEnd().split('\n')).toEqual([
    'bad configuration',
    expect.stringMatching(/^ {2}LISTEN is "99999"; right would be a port/),
    expect.stringMatching(/^ {2}WEB_CONCURRENCY is "many"; right would be a whole number from 1/),
    expect.stringMatching(/^ {2}LOG_LEVEL is "loud"; right would be one of debug/),
    '  GREETING is "two words"; right would be one word',
  ]);
});

test('what cannot start ends after some tries, further and further apart, with the reason as its last line', async () => {
  const copy = copyRepository('dist');
  writeFileSync(join(copy, 'dist/server/worker.js'), "throw new Error('of no use');");
  const app = await spawnApp({ env: { WEB_CONCURRENCY: '2' }, entry: join(copy, 'dist/main.js') });
  await app.waitForLog(/^giving up/);
  expect(await app.exited).toEqual({ code: 1, signal: null });
  const fatal = app.log().filter(({ level }) => level === 'fatal');
  expect(fatal.map(({ msg }) => msg)).toEqual([
    expect.stringMatching(/^giving up: 6 workers in a row died.*of no use/),
  ]);
  expect(app.log().at(-1)).toEqual(fatal[0]);
  const deaths = app
    .log()
    .filter(({ msg }) => msg.includes('died before it listened'))
    .map(({ time }) => Date.parse(time));
  expect(deaths).toHaveLength(6);
  // The first two came together; then each pause is twice the one before.
  const pauses = deaths.slice(1).map((time, i) => time - (deaths[i] as number));
  for (const [i, least] of [200, 400, 800, 1_600].entries()) {
    expect(pauses[i + 1]).toBeGreaterThanOrEqual(least);
  }
});

test('an address that cannot be had is one message, an exit code, and no fork', async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, resolve));
  const { port } = other.address() as { port: number };
  const folder = join(temporaryDirectory(), 'missing');
  const entry = join(copyWithTestService(), 'dist/main.js'); // which logs nothing before it serves
  try {
    for (const [listen, reason] of [
      [String(port), 'address already in use (EADDRINUSE)'],
      [`127.0.0.1:${port}`, 'address already in use (EADDRINUSE)'],
      ['host.invalid:8080', 'getaddrinfo ENOTFOUND host.invalid'],
      [`${folder}/app.sock`, 'there is no such folder'],
    ] as const) {
      const app = await spawnApp({ env: { LISTEN: listen }, nodeArguments: announceForks(), entry });
      expect(await app.exited).toEqual({ code: 1, signal: null });
      expect(app.output()).toBe(`bad configuration\n  LISTEN is ${listen}: ${reason}\n`);
    }
  } finally {
    other.close();
  }
});

test('a stop between two tries to start ends at once', async () => {
  const copy = copyRepository('dist');
  writeFileSync(join(copy, 'dist/server/worker.js'), "throw new Error('of no use');");
  const app = await spawnApp({ env: { WEB_CONCURRENCY: '1' }, entry: join(copy, 'dist/main.js') });
  await app.waitForLog(/died before it listened/, { nth: 4 });
  app.kill('SIGTERM');
  expect((await app.exited).signal).toBeNull();
  expect(app.log().filter(({ msg }) => /died before/.test(msg))).toHaveLength(4);
});

test('SIGTERM while the host of LISTEN is looked up is the end, before any fork', async () => {
  const file = join(temporaryDirectory(), 'slow-lookup.cjs');
  writeFileSync(
    file,
    `require('node:dns/promises').lookup = () => {
       console.log('looks up');
       return new Promise((resolve) => setTimeout(resolve, 60_000, { address: '127.0.0.1', family: 4 }));
     };`,
  );
  const app = await spawnApp({
    env: { LISTEN: `slow.example:${await freePort()}` },
    nodeArguments: ['--require', file, ...announceForks()],
  });
  await waitFor(() => /looks up/.test(app.output()), 'the lookup');
  app.kill('SIGTERM');
  expect(await app.exited).toEqual({ code: 0, signal: null });
  expect(app.output()).not.toContain('forked');
});

test.each([
  ['SIGTERM', (app: App) => app.kill('SIGTERM'), graceful],
  ['Ctrl-C', (app: App) => process.kill(-app.pid, 'SIGINT'), graceful],
  ['the death of the primary', (app: App) => app.kill('SIGKILL'), { code: null, signal: 'SIGKILL' }],
])('%s in the middle of the boot of the workers leaves none', async (_, end, exit) => {
  const copy = copyRepository('dist');
  const code = "console.log('boots'); await new Promise((resume) => setTimeout(resume, 60_000));";
  writeFileSync(join(copy, 'dist/server/worker.js'), code);
  const entry = join(copy, 'dist/main.js');
  const app = await spawnApp({ env: { WEB_CONCURRENCY: '2' }, entry, group: true });
  await waitFor(() => app.output().match(/^boots$/gm)?.length === 2, 'the boot of both');
  const workers = app.workers();
  expect(workers).toHaveLength(2);
  end(app);
  await waitFor(() => !workers.some(isRunning), 'the end of the workers', 10_000);
  expect(await app.exited).toEqual(exit);
});

test('a file that is no socket where LISTEN points to is refused, and left as it was', async () => {
  const path = join(temporaryDirectory(), 'app.sock');
  writeFileSync(path, 'precious');
  const app = await spawnApp({ env: { LISTEN: path }, entry: join(copyWithTestService(), 'dist/main.js') });
  expect(await app.exited).toEqual({ code: 1, signal: null });
  expect(app.output()).toBe(`bad configuration\n  LISTEN is ${path}: there is a file that is not a socket\n`);
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
  expect(await request(next.address, '/livez')).toMatchObject({ status: 200 });
  expect(statSync(path).mode & 0o777).toBe(0o666); // nginx runs as another user
});

test('a second app on the same socket takes over, and no request fails', async () => {
  const path = join(temporaryDirectory(), 'app.sock');
  const entry = join(copyWithTestService(), 'dist/main.js'); // each app keeps what it has of its own to itself
  const env = { LISTEN: path, WEB_CONCURRENCY: '1' };
  const first = await startApp({ env, entry });
  const load = startLightLoad(first.address, 4, {
    keepAlive: false,
    request: { path: '/', headers: {} },
  });
  await load.waitForAnswers(50);
  const second = await startApp({ env, entry });
  await load.waitForAnswers(50); // by now the first has accepted all that connected to it
  first.kill('SIGTERM');
  expect(await first.exited).toEqual({ code: 0, signal: null });
  await load.waitForAnswers(50);
  const { sent, ok } = await load.stop();
  expect(ok).toBe(sent);
  expect(second.workers()).toContain(workerOf(await request({ socketPath: path }, '/livez')));
});

test('an app whose socket another one took over serves again when that one has ended, or the file is removed', async () => {
  const path = join(temporaryDirectory(), 'app.sock');
  const first = await startApp({ env: { LISTEN: path, WEB_CONCURRENCY: '1' } });
  const second = await startApp({ env: { LISTEN: path, WEB_CONCURRENCY: '1' } });
  const answers = async () => workerOf(await request({ socketPath: path }, '/livez'));
  expect(second.workers()).toContain(await answers());
  await delay(2_500); // while the other one serves, the first one leaves it alone
  expect(second.workers()).toContain(await answers());
  second.kill('SIGTERM');
  await second.exited;
  await waitFor(async () => first.workers().includes(await answers()), 'the first app to serve again');
  await first.waitForLog(/^reloaded/); // the workers of the lost socket are gone
  rmSync(path);
  await waitFor(async () => first.workers().includes(await answers()), 'the file to be there again');
  first.kill('SIGTERM');
  expect(await first.exited).toEqual({ code: 0, signal: null });
  expect(readdirSync(dirname(path))).toEqual(['app.sock']);
});

test('it can listen on one address alone', async () => {
  const port = await freePort();
  const app = await startApp({ env: { LISTEN: `127.0.0.1:${port}`, WEB_CONCURRENCY: '1' } });
  expect(await request({ port }, '/livez')).toMatchObject({ status: 200 });
  expect(app.log().map(({ msg }) => msg)).toContain(`serving http://127.0.0.1:${port} from 1 worker`);
  await expect(request({ host: '127.0.0.2', port })).rejects.toThrow();
});

test('the service ends with the terminal in which it was started', async () => {
  const port = await freePort();
  const env = { ...process.env, ...required, LISTEN: String(port), WEB_CONCURRENCY: '2' };
  const command = `exec node '${join(root, 'dist/main.js')}'`;
  const [options, ...rest] =
    process.platform === 'darwin'
      ? ['-q', '/dev/null', 'sh', '-c', command]
      : ['--quiet', '--command', command, '/dev/null'];
  const terminal = spawn('script', [String(options), ...rest], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let shown = '';
  terminal.stdout.on('data', (text) => {
    shown += text;
  });
  await waitFor(() => /serving http/.test(shown), 'the service to start').catch((error) => {
    throw new Error(shown, { cause: error });
  });
  expect(shown).not.toContain('{"level"'); // made for eyes
  const [primary] = childrenOf(terminal.pid as number) as [number];
  const processes = [primary, ...childrenOf(primary)];
  expect(processes).toHaveLength(3);
  terminal.kill('SIGKILL');
  await waitFor(() => !processes.some(isRunning), 'the end of all processes');
});
