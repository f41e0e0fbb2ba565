import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
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
import { killIfRunning, stopAll, temporaryDirectory } from '../support/processes.ts';
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
