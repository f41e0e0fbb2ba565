import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import {
  delay,
  killIfRunning,
  startApp,
  startNginx,
  startRedis,
  stopAll,
  temporaryDirectory,
} from '../processes.ts';
import { countDoubled, countFailed, type Report, startLoad } from './load.ts';
import { countIn, pickOne, startService, waitForSuccessor } from './service.ts';
import { addRow, addUp } from './table.ts';

const minute = 60_000;

afterEach(stopAll, minute);

test(
  '1: workers killed every second are replaced within a second, and no visit through nginx is lost',
  async () => {
    const { app, to, count } = await startService();
    const load = startLoad({ to });
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
    addRow({
      row: '1',
      fault: 'a random worker killed each second',
      load: report,
      kills,
      restarts,
      difference,
      seen: `all workers serve again within ${slowest.toFixed(0)} ms`,
    });
    expect(report).toMatchObject({ ok: report.sent, failed: {}, refused: 0 });
    expect(countDoubled(report.numbers)).toBe(0);
    expect(difference).toBe(0);
    expect(restarts).toBe(kills);
    expect(slowest).toBeLessThan(1_000);
  },
  3 * minute,
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
    addRow({
      row: '2',
      fault: 'the same, no nginx, a connection a visit',
      load: report,
      kills,
      restarts,
      difference,
      seen: `at most ${worst} resets a kill; all serve again within ${slowest.toFixed(0)} ms`,
    });
    expect(restarts).toBe(kills);
    expect(worst).toBeLessThanOrEqual(clients);
    expect(Object.keys(report.failed)).not.toContain('no answer');
    expect(report.max).toBeLessThan(2_000);
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
        const load = startLoad({ to });
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
