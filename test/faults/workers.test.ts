import { readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { type App, spawnApp, startApp } from '../support/app.ts';
import {
  countReplaced,
  expectInTime,
  pickOne,
  rounds,
  startService,
  startServiceAtPort,
  waitForSuccessor,
} from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { sample } from '../support/judgement.ts';
import { countFailed, expectExact } from '../support/load.ts';
import { isRunning, killIfRunning, stopAll, temporaryDirectory } from '../support/processes.ts';
import { copyRepository } from '../support/repository.ts';
import { request } from '../support/requests.ts';
import { copyWithTestService } from '../support/test-service.ts';
import { delay, waitFor } from '../support/wait.ts';

const minute = 60_000;
const limit = 10 * minute; // for a machine that is busy with other things

afterEach(stopAll, minute);

test(
  '1: workers killed every second are replaced within a second, and no request through nginx is lost',
  async () => {
    const service = await startService();
    const { app } = service;
    // Busy, but not more than two cores can bear with nginx and the clients on them: a start needs its share.
    const load = service.startLoad({ rate: 2_500 });
    const kills = rounds(50);
    let slowest = 0;
    for (let kill = 1; kill <= kills; kill++) {
      const begin = performance.now();
      const before = app.workers();
      killIfRunning(pickOne(before), 'SIGKILL');
      slowest = Math.max(slowest, await waitForSuccessor(app, before));
      expect(app.workers()).toHaveLength(2);
      await delay(begin + 1_000 - performance.now());
    }
    while ((await load.look()).sent < rounds(100_000)) await delay(100);
    const report = await load.stop();
    const verdict = await service.judge();
    const restarts = countReplaced(app);
    const times = [{ what: 'all workers serve again within', took: slowest, bar: 1_000 }];
    addRow({
      row: '1',
      fault: 'a random worker killed each second',
      load: report,
      kills,
      restarts,
      verdict,
      times,
    });
    expectExact(report, verdict);
    expect(restarts).toBe(kills);
    expectInTime(times);
  },
  limit,
);

test(
  '1: when all workers are killed at once, requests wait for their successors, and none through nginx is lost',
  async () => {
    const service = await startService();
    const { app } = service;
    const load = service.startLoad({ rate: 1_000 });
    const kills = rounds(10);
    let slowest = 0;
    for (let kill = 1; kill <= kills; kill++) {
      const before = app.workers();
      for (const pid of before) killIfRunning(pid, 'SIGKILL');
      slowest = Math.max(slowest, await waitForSuccessor(app, before));
      await waitFor(() => app.workers().length === 2, 'both workers');
      await delay(500);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    addRow({
      row: '1 all',
      fault: 'all workers killed at once',
      load: report,
      kills: 2 * kills,
      restarts: countReplaced(app),
      verdict,
      seen: `a new one answers after ${slowest.toFixed(0)} ms at most`,
    });
    expectExact(report, verdict);
  },
  limit,
);

test(
  '2: a killed worker resets no more than what it had in flight, where no proxy stands in front',
  async () => {
    const service = await startServiceAtPort();
    const { app } = service;
    const [busy, pausing] = [50, 40];
    const load = service.startLoad({ busy, pausing, keepAlive: false });
    const kills = rounds(20);
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
    const verdict = await service.judge();
    const restarts = countReplaced(app);
    const times = [
      { what: 'all workers serve again within', took: slowest, bar: 1_000 },
      { what: 'no request takes longer than', took: report.max, bar: 2_000 },
    ];
    addRow({
      row: '2',
      fault: 'the same, no nginx, a connection for each request',
      load: report,
      kills,
      restarts,
      verdict,
      times,
      seen: `at most ${worst} resets for each kill`,
    });
    expect(restarts).toBe(kills);
    expect(worst).toBeLessThanOrEqual(busy + pausing);
    expect(Object.keys(report.failed)).not.toContain('no answer');
    expectInTime(times);
    expect(verdict.wrong).toEqual([]); // done, and the answer was lost, is right
  },
  limit,
);

test(
  '3: no request is lost by reloads, of one worker or four, behind nginx or at a port',
  async () => {
    const reloads = rounds(20);
    let sent = 0;
    for (const workers of [1, 4]) {
      for (const start of [startService, startServiceAtPort]) {
        const service = await start({ env: { WEB_CONCURRENCY: String(workers) } });
        const { app } = service;
        // What is left of two cores is for the new workers' starts.
        const load = service.startLoad({ rate: workers === 1 ? 2_500 : 700 });
        for (let nth = 1; nth <= reloads; nth++) {
          app.kill('SIGHUP');
          await app.waitForLog(/^reloaded/, { nth });
        }
        while ((await load.look()).sent < rounds(25_000)) await delay(100);
        const report = await load.stop();
        const verdict = await service.judge();
        addRow({
          row: `3 N=${workers} ${service.nginx ? 'nginx' : 'port'}`,
          fault: `SIGHUP × ${reloads}`,
          load: report,
          restarts: reloads * workers,
          verdict,
        });
        expectExact(report, verdict);
        sent += report.sent;
        await stopAll();
      }
    }
    expect(sent).toBeGreaterThanOrEqual(rounds(100_000));
  },
  limit,
);

test(
  '8: a worker in an endless loop is replaced after the timeout, and its requests go to another',
  async () => {
    const timeout = 3;
    const app = join(temporaryDirectory(), 'routes.conf'); // whatever the app itself lists
    writeFileSync(
      app,
      `location = ${sample.path} { proxy_next_upstream error timeout; proxy_pass http://app; }`,
    );
    const service = await startService({
      included: { app },
      env: { WORKER_TIMEOUT: String(timeout) },
      nodeArguments: ['--require', join(__dirname, 'loop.cjs')],
    });
    const load = service.startLoad();
    const loops = rounds(4);
    let slowest = 0;
    for (let loop = 1; loop <= loops; loop++) {
      await delay(500);
      const before = service.app.workers();
      const begin = performance.now();
      process.kill(pickOne(before), 'SIGUSR2');
      await service.app.waitForLog(/silent for 3 s/, { nth: loop });
      await waitForSuccessor(service.app, before);
      slowest = Math.max(slowest, performance.now() - begin);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    const times = [{ what: 'replaced within', took: slowest, bar: timeout * 1_250 }];
    addRow({
      row: '8',
      fault: `a worker in an endless loop × ${loops}, time-out ${timeout} s`,
      load: report,
      kills: loops,
      restarts: loops,
      verdict,
      times,
    });
    expectExact(report, verdict);
    expectInTime(times);
  },
  limit,
);

/** A copy of the compiled service whose code may be broken. */
function copyService(): { entry: string; break(): void; repair(): void } {
  const copy = copyRepository('dist');
  const file = join(copy, 'dist/server/worker.js');
  const whole = readFileSync(file);
  return {
    entry: join(copy, 'dist/main.js'),
    break: () => writeFileSync(file, 'throw new Error("a bad deploy");'),
    repair: () => writeFileSync(file, whole),
  };
}

test(
  '9: code that fails at boot ends the service, and under a reload leaves the old workers at work',
  async () => {
    const code = copyService();
    code.break();
    const begin = performance.now();
    const doomed = await spawnApp({ entry: code.entry, env: { WEB_CONCURRENCY: '2' } });
    const exit = await doomed.exited;
    const seconds = (performance.now() - begin) / 1000;
    const forks = doomed.log().filter(({ msg }) => /died before it listened/.test(msg)).length;
    code.repair();

    const service = await startService({ entry: code.entry });
    const { app } = service;
    const workers = app.workers();
    const load = service.startLoad();
    const deploys = rounds(3);
    for (let nth = 1; nth <= deploys; nth++) {
      code.break();
      app.kill('SIGHUP');
      await app.waitForLog(/^reload aborted/, { nth });
      expect(workers.every(isRunning)).toBe(true);
      code.repair();
    }
    app.kill('SIGHUP');
    await app.waitForLog(/^reloaded/);
    const report = await load.stop();
    const verdict = await service.judge();
    addRow({
      row: '9',
      fault: `crash at boot; then ${deploys} bad deploys by SIGHUP and a good one`,
      load: report,
      verdict,
      seen: `at boot: ${forks} forks, exit code ${exit.code} after ${seconds.toFixed(1)} s`,
    });
    expect(exit.code).toBe(1);
    expect(forks).toBeLessThanOrEqual(12);
    expect(seconds).toBeLessThan(30);
    expect(doomed.output().trimEnd().split('\n').at(-1)).toContain('a bad deploy');
    expectExact(report, verdict);
  },
  limit,
);

type Ending = { name: string; end(app: App): void; code: number | null };

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

test(
  '10: whatever ends the service, requests in flight are answered, and no worker stays behind',
  async () => {
    const entry = join(copyWithTestService(), 'dist/main.js');
    const inFlight = 40;
    const seen: string[] = [];
    for (const { name, end, code } of endings) {
      const app = await startApp({ entry, env: { WEB_CONCURRENCY: '2' }, group: true });
      const workers = app.workers();
      const file = join(temporaryDirectory(), 'answer');
      const answers = Array.from({ length: inFlight }, () => request(app.address, `/held?until=${file}`));
      await waitFor(() => connectionsTo(app) === inFlight, 'all requests to have arrived');
      end(app);
      await delay(300);
      writeFileSync(file, '');
      const answered = (await Promise.all(answers)).filter(({ status }) => status === 200).length;
      const exit = await app.exited;
      await waitFor(() => !workers.some(isRunning), 'all workers to end');
      seen.push(`${name}: ${answered} of ${inFlight} answered, exit code ${exit.code}`);
      expect(answered).toBe(inFlight);
      expect(exit.code).toBe(code);
    }

    const app = await startApp({ entry, env: { GRACEFUL_TIMEOUT: '1', WEB_CONCURRENCY: '2' } });
    const workers = app.workers();
    const half = connect(app.address as { port: number }).on('error', () => {});
    half.write('GET / HTTP/1.1\r\nHost: localhost\r\n');
    await waitFor(() => connectionsTo(app) === 1, 'half a request to have arrived');
    app.kill('SIGTERM');
    const { code } = await app.exited;
    half.destroy();
    seen.push(`forced: exit code ${code}`);
    addRow({ row: '10', fault: 'the service is ended with requests in flight', seen: seen.join('; ') });
    expect(code).toBe(1);
    expect(workers.some(isRunning)).toBe(false);
  },
  limit,
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
