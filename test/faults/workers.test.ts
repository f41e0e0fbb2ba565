import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import {
  type App,
  delay,
  isRunning,
  killIfRunning,
  numberIn,
  request,
  spawnApp,
  startApp,
  startNginx,
  startRedis,
  stopAll,
  temporaryDirectory,
  waitFor,
} from '../processes.ts';
import { countDoubled, countFailed, type Report, startLoad } from './load.ts';
import { countIn, expectExact, expectInTime, pickOne, startService, waitForSuccessor } from './service.ts';
import { addRow, addUp } from './table.ts';

const minute = 60_000;

afterEach(stopAll, minute);

test(
  '1: workers killed every second are replaced within a second, and no visit through nginx is lost',
  async () => {
    const { app, to, count } = await startService();
    // Busy, but not more than two cores can bear with Redis, nginx and the clients on them: a start needs its share.
    const load = startLoad({ to, rate: 2_500 });
    const kills = 50;
    let slowest = 0;
    for (let kill = 1; kill <= kills; kill++) {
      const begin = performance.now();
      const before = app.workers();
      killIfRunning(pickOne(before), 'SIGKILL');
      slowest = Math.max(slowest, await waitForSuccessor(app, before));
      expect(app.workers()).toHaveLength(2);
      await delay(begin + 1_000 - performance.now());
    }
    while ((await load.look()).sent < 100_000) await delay(100);
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    const restarts = app.log().filter(({ msg }) => /is replaced/.test(msg)).length;
    const times = [{ what: 'all workers serve again within', took: slowest, bar: 1_000 }];
    addRow({
      row: '1',
      fault: 'a random worker killed each second',
      load: report,
      kills,
      restarts,
      difference,
      times,
    });
    expectExact(report, difference);
    expect(restarts).toBe(kills);
    expectInTime(times);
  },
  3 * minute,
);

test(
  '1: when all workers are killed at once, visits wait for their successors, and none through nginx is lost',
  async () => {
    const { app, to, count } = await startService();
    const load = startLoad({ to, rate: 1_000 });
    const kills = 10;
    let slowest = 0;
    for (let kill = 1; kill <= kills; kill++) {
      const before = app.workers();
      for (const pid of before) killIfRunning(pid, 'SIGKILL');
      slowest = Math.max(slowest, await waitForSuccessor(app, before));
      await waitFor(() => app.workers().length === 2, 'both workers');
      await delay(500);
    }
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    addRow({
      row: '1 all',
      fault: 'all workers killed at once',
      load: report,
      kills: 2 * kills,
      restarts: app.log().filter(({ msg }) => /is replaced/.test(msg)).length,
      difference,
      seen: `a new one answers after ${slowest.toFixed(0)} ms at most`,
    });
    expectExact(report, difference);
  },
  2 * minute,
);

test(
  '2: a killed worker resets no more than what it had in flight, where no proxy stands in front',
  async () => {
    const redis = await startRedis({ appendOnly: true });
    const app = await startApp({ env: { REDIS_URL: redis.url, WEB_CONCURRENCY: '2' } });
    const clients = 50;
    const load = startLoad({ to: app.address, keepAlive: false, clients });
    const kills = 20;
    let slowest = 0;
    let worst = 0;
    for (let kill = 1; kill <= kills; kill++) {
      const begin = performance.now();
      const failures = countFailed(await load.look());
      const before = app.workers();
      killIfRunning(pickOne(before), 'SIGKILL');
      slowest = Math.max(slowest, await waitForSuccessor(app, before));
      worst = Math.max(worst, countFailed(await load.look()) - failures);
      expect(app.workers()).toHaveLength(2);
      await delay(begin + 700 - performance.now());
    }
    const report = await load.stop();
    const difference = (await countIn(redis)) - report.ok;
    const restarts = app.log().filter(({ msg }) => /is replaced/.test(msg)).length;
    const times = [
      { what: 'all workers serve again within', took: slowest, bar: 1_000 },
      { what: 'no visit takes longer than', took: report.max, bar: 2_000 },
    ];
    addRow({
      row: '2',
      fault: 'the same, no nginx, a connection a visit',
      load: report,
      kills,
      restarts,
      difference,
      times,
      seen: `at most ${worst} resets a kill`,
    });
    expect(restarts).toBe(kills);
    expect(worst).toBeLessThanOrEqual(clients);
    expect(Object.keys(report.failed)).not.toContain('no answer');
    expectInTime(times);
    expect(countDoubled(report.numbers)).toBe(0);
    expect(difference).toBeGreaterThanOrEqual(0);
    expect(difference).toBeLessThanOrEqual(countFailed(report)); // counted, and the answer was lost
  },
  2 * minute,
);

test(
  '3: no visit is lost by twenty reloads, of one worker or four, behind nginx or at a port',
  async () => {
    const reports: Report[] = [];
    const reloads = 20;
    for (const workers of [1, 4]) {
      for (const listen of ['socket', 'port']) {
        const redis = await startRedis({ appendOnly: true });
        const env = { REDIS_URL: redis.url, WEB_CONCURRENCY: String(workers) };
        const socketPath = join(temporaryDirectory(), 'app.sock');
        const app = await startApp({ env: listen === 'socket' ? { ...env, LISTEN: socketPath } : env });
        const to = listen === 'socket' ? { port: (await startNginx(socketPath)).port } : app.address;
        // What is left of two cores is for the new workers' starts.
        const load = startLoad({ to, rate: workers === 1 ? 2_500 : 700 });
        for (let nth = 1; nth <= reloads; nth++) {
          app.kill('SIGHUP');
          await app.waitForLog(/^reloaded/, { nth });
        }
        while ((await load.look()).sent < 25_000) await delay(100);
        const report = await load.stop();
        const difference = (await countIn(redis)) - report.ok;
        addRow({
          row: `3 N=${workers} ${listen}`,
          fault: 'SIGHUP × 20',
          load: report,
          restarts: reloads * workers,
          difference,
          seen: report.resent > 0 ? `${report.resent} sent again, their idle connection was closed` : '',
        });
        expect(difference).toBe(0);
        reports.push(report);
        await stopAll();
      }
    }
    const total = addUp(reports);
    expect(total).toMatchObject({ ok: total.sent, failed: {}, refused: 0 });
    expect(total.sent).toBeGreaterThanOrEqual(100_000);
  },
  4 * minute,
);

test(
  '8: a worker in an endless loop is replaced after the time-out, and its visits go to another',
  async () => {
    const timeout = 3;
    const { app, to, count } = await startService({
      env: { WORKER_TIMEOUT: String(timeout) },
      nodeArguments: ['--require', join(__dirname, 'loop.cjs')],
    });
    const load = startLoad({ to });
    const loops = 4;
    let slowest = 0;
    for (let loop = 1; loop <= loops; loop++) {
      await delay(500);
      const before = app.workers();
      const begin = performance.now();
      process.kill(pickOne(before), 'SIGUSR2');
      await app.waitForLog(/silent for 3 s/, { nth: loop });
      await waitForSuccessor(app, before);
      slowest = Math.max(slowest, performance.now() - begin);
    }
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    const times = [{ what: 'replaced within', took: slowest, bar: timeout * 1_250 }];
    addRow({
      row: '8',
      fault: `a worker in an endless loop × ${loops}, time-out ${timeout} s`,
      load: report,
      kills: loops,
      restarts: loops,
      difference,
      times,
    });
    expectExact(report, difference);
    expectInTime(times);
  },
  2 * minute,
);

/** A copy of the compiled service whose code may be broken. */
function copyService(): { entry: string; break(): void; mend(): void } {
  const copy = temporaryDirectory();
  for (const name of ['dist', 'package.json']) cpSync(name, join(copy, name), { recursive: true });
  symlinkSync(resolve('node_modules'), join(copy, 'node_modules'));
  const file = join(copy, 'dist/worker.js');
  const whole = readFileSync(file);
  return {
    entry: join(copy, 'dist/main.js'),
    break: () => writeFileSync(file, 'throw new Error("a bad deploy");'),
    mend: () => writeFileSync(file, whole),
  };
}

test(
  '9: code that fails at boot ends the service, and under a reload leaves the old workers at work',
  async () => {
    const service = copyService();
    service.break();
    const begin = performance.now();
    const doomed = await spawnApp({ entry: service.entry, env: { WEB_CONCURRENCY: '2' } });
    const { code } = await doomed.exited;
    const seconds = (performance.now() - begin) / 1000;
    const forks = doomed.log().filter(({ msg }) => /died before it listened/.test(msg)).length;
    service.mend();

    const { app, to, count } = await startService({ entry: service.entry });
    const workers = app.workers();
    const load = startLoad({ to });
    const deploys = 3;
    for (let nth = 1; nth <= deploys; nth++) {
      service.break();
      app.kill('SIGHUP');
      await app.waitForLog(/^reload aborted/, { nth });
      expect(workers.every(isRunning)).toBe(true);
      service.mend();
    }
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/);
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    addRow({
      row: '9',
      fault: `crash at boot; then ${deploys} bad deploys by SIGHUP and a good one`,
      load: report,
      difference,
      seen: `at boot: ${forks} forks, exit code ${code} after ${seconds.toFixed(1)} s`,
    });
    expect(code).toBe(1);
    expect(forks).toBeLessThanOrEqual(12);
    expect(seconds).toBeLessThan(30);
    expect(doomed.output().trimEnd().split('\n').at(-1)).toContain('a bad deploy');
    expectExact(report, difference);
  },
  2 * minute,
);

type Ending = { name: string; end(app: App): void; code: number | null };

test(
  '10: whatever ends the service, visits in flight are answered, and no worker stays behind',
  async () => {
    const endings: Ending[] = [
      { name: 'SIGTERM', end: (app) => app.kill('SIGTERM'), code: 0 },
      { name: 'SIGTERM to the group', end: (app) => process.kill(-app.pid, 'SIGTERM'), code: 0 },
      {
        name: 'SIGTERM twice',
        end(app) {
          app.kill('SIGTERM');
          app.kill('SIGTERM');
        },
        code: 0,
      },
      { name: 'SIGKILL of the primary', end: (app) => app.kill('SIGKILL'), code: null },
    ];
    const inFlight = 40;
    const seen: string[] = [];
    for (const { name, end, code } of endings) {
      const redis = await startRedis({ appendOnly: true });
      const app = await startApp({ env: { REDIS_URL: redis.url, WEB_CONCURRENCY: '2' }, group: true });
      const workers = app.workers();
      // Redis is frozen, so that all of them are in flight when the end comes.
      redis.freeze();
      const answers = Array.from({ length: inFlight }, () => request(app.address));
      await waitFor(() => connectionsTo(app) === inFlight, 'all visits to have arrived');
      end(app);
      await delay(300);
      redis.thaw();
      const numbers = (await Promise.all(answers)).map(
        ({ status, body }) => status === 200 && numberIn(body),
      );
      const exit = await app.exited;
      await waitFor(() => !workers.some(isRunning), 'all workers to end');
      seen.push(`${name}: ${new Set(numbers).size} of ${inFlight} answered, exit code ${exit.code}`);
      expect(numbers.sort((a, b) => Number(a) - Number(b))).toEqual(
        Array.from({ length: inFlight }, (_, i) => i + 1),
      );
      expect(exit.code).toBe(code);
      expect(await countIn(redis)).toBe(inFlight);
      await stopAll();
    }

    const app = await startApp({ env: { GRACEFUL_TIMEOUT: '1', WEB_CONCURRENCY: '2' } });
    const workers = app.workers();
    const half = connect(app.address as { port: number }).on('error', () => {});
    half.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
    await waitFor(() => connectionsTo(app) === 1, 'half a request to have arrived');
    app.kill('SIGTERM');
    const { code } = await app.exited;
    half.destroy();
    seen.push(`forced: exit code ${code}`);
    addRow({ row: '10', fault: 'the service is ended with visits in flight', seen: seen.join('; ') });
    expect(code).toBe(1);
    expect(workers.some(isRunning)).toBe(false);
  },
  2 * minute,
);

/** How many connections the workers of an app at a port have accepted. */
function connectionsTo(app: App): number {
  const { port } = app.address as { port: number };
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const established = '01';
  return ['/proc/net/tcp', '/proc/net/tcp6']
    .flatMap((table) => readFileSync(table, 'utf8').trim().split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, local, , state, , , , , , inode]) =>
        local?.endsWith(suffix) && state === established && inode !== '0',
    ).length;
}
