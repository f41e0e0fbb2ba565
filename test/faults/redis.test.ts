import { appendFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { delay, killIfRunning, request, startRedis, stopAll, waitFor } from '../processes.ts';
import { openLink } from './link.ts';
import { countDoubled, startLoad } from './load.ts';
import {
  expectExact,
  expectInTime,
  pickOne,
  residentMemory,
  startService,
  waitForSuccessor,
} from './service.ts';
import { addRow } from './table.ts';

const minute = 60_000;

afterEach(stopAll, minute);

test(
  '5: no visit is lost or counted twice by a Redis that is killed and comes back, once with a torn file',
  async () => {
    const { redis, to, count, data } = await startService();
    const load = startLoad({ to });
    const kills = 4;
    for (let kill = 1; kill <= kills; kill++) {
      await delay(1_000);
      await redis.kill();
      await delay(300);
      if (kill === kills) tearTail(data);
      await redis.start();
    }
    await delay(1_000);
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    addRow({
      row: '5 killed',
      fault: 'Redis killed × 4, its file torn once',
      load: report,
      kills,
      restarts: kills,
      difference,
    });
    expectExact(report, difference);
  },
  minute,
);

test(
  '5: a Redis that is frozen for longer than a visit is retried refuses visits for a while and loses none',
  async () => {
    const { redis, to, count } = await startService();
    const clients = 50;
    const load = startLoad({ to, clients, comeAgain: true });
    const freezes = 2;
    for (let freeze = 1; freeze <= freezes; freeze++) {
      await delay(1_000);
      redis.freeze();
      await delay(3_000);
      redis.thaw();
      await delay(1_000);
    }
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    const times = [{ what: 'nothing is pending for longer than', took: report.max, bar: 6_000 }];
    addRow({
      row: '5 frozen',
      fault: 'Redis frozen for 3 s × 2',
      load: report,
      difference,
      times,
      seen: 'a refused visit came again after Retry-After; max is over its tries',
    });
    expect(report).toMatchObject({ ok: report.sent, failed: {} });
    expectInTime(times);
    expect(countDoubled(report.numbers)).toBe(0);
    // Redis may have counted what was in flight and been frozen before it could say so: nobody can know until it
    // is back, which is longer than a visit waits. All that came later must not count (redis.ts, deadline).
    expect(difference).toBeGreaterThanOrEqual(0);
    expect(difference).toBeLessThanOrEqual(clients * freezes);
  },
  minute,
);

/** What a power cut leaves behind: the last command in the append-only file is not whole. */
function tearTail(data: string): void {
  const folder = join(data, 'appendonlydir');
  const [file] = readdirSync(folder).filter((name) => name.endsWith('.incr.aof'));
  appendFileSync(join(folder, String(file)), '*3\r\n$3\r\nSET\r\n$6\r\nvis');
}

test(
  '6: no visit is lost when Redis and workers are killed at the same instant',
  async () => {
    const { redis, app, to, count } = await startService({ env: { WEB_CONCURRENCY: '3' } });
    const load = startLoad({ to });
    const kills = 10;
    for (let kill = 1; kill <= kills; kill++) {
      const before = app.workers();
      const spared = pickOne(before);
      const dead = redis.kill();
      for (const worker of before) if (worker !== spared) killIfRunning(worker, 'SIGKILL');
      await dead;
      await delay(200);
      await redis.start();
      await waitForSuccessor(app, before);
      await delay(500);
    }
    while ((await load.look()).sent < 35_000) await delay(100);
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    addRow({
      row: '6',
      fault: 'Redis and two of three workers killed together × 10',
      load: report,
      kills: 3 * kills,
      restarts: app.log().filter(({ msg }) => /is replaced/.test(msg)).length,
      difference,
    });
    expectExact(report, difference);
  },
  2 * minute,
);

test(
  '7: while Redis is away visits are refused in time, and counted again within a second of its return',
  async () => {
    const { redis, app, nginx, to } = await startService();
    const probes: Record<string, number> = {};
    const load = startLoad({ to, clients: 500 });
    await redis.kill();
    const begin = performance.now();
    const memory: number[] = [];
    for (let second = 1; second <= 30; second++) {
      for (const path of ['/livez', '/readyz']) {
        const { status } = await request(nginx, path);
        const seen = `${path} ${status}`;
        probes[seen] = (probes[seen] ?? 0) + 1;
      }
      memory.push(app.workers().reduce((sum, pid) => sum + residentMemory(pid), 0));
      await delay(begin + second * 1_000 - performance.now());
    }
    const report = await load.stop();
    const refusal = await request(nginx);
    await redis.start();
    const back = performance.now();
    await waitFor(async () => (await request(nginx)).status === 200, 'a visit to be counted');
    const recovery = performance.now() - back;
    // The first seconds fill what is always filled: heaps, queues, connections.
    const growth = Math.max(...memory.slice(-5)) / Math.max(...memory.slice(5, 10));
    const times = [
      { what: 'refused within', took: report.max, bar: 3_000 },
      { what: 'back within', took: recovery, bar: 1_000 },
    ];
    addRow({
      row: '7',
      fault: 'Redis away for 30 s, 500 clients',
      load: report,
      kills: 1,
      restarts: 1,
      times,
      seen:
        `${Object.entries(probes)
          .map(([seen, count]) => `${count} × ${seen}`)
          .join(', ')}; ` + `memory × ${growth.toFixed(2)} from second 10 to 30`,
    });
    expect(report).toMatchObject({ refused: report.sent - report.ok, failed: {} });
    expect(refusal).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(probes).toEqual({ '/livez 200': 30, '/readyz 503': 30 });
    expect(growth).toBeLessThan(1.1);
    expectInTime(times);
  },
  2 * minute,
);

test(
  '11: a bad network between app and Redis costs time, but no visit and no worker',
  async () => {
    const redis = await startRedis({ appendOnly: true });
    const link = await openLink(redis.port);
    try {
      const { app, to, count } = await startService({ redis, env: { REDIS_URL: link.url } });
      const workers = app.workers();
      const load = startLoad({ to });
      link.change({ latency: 20, jitter: 80 });
      await delay(3_000);
      link.change({ slice: 7 });
      await delay(3_000);
      for (let reset = 1; reset <= 10; reset++) {
        link.change({ latency: 1, jitter: 10 });
        await delay(300);
        link.reset();
      }
      for (let famine = 1; famine <= 3; famine++) {
        link.change({ starved: true });
        await delay(1_500);
        link.change({});
        await delay(500);
      }
      const report = await load.stop();
      const difference = (await count()) - report.ok;
      const times = [{ what: 'no visit takes longer than', took: report.max, bar: 3_000 }];
      addRow({
        row: '11',
        fault: 'between app and Redis: 20–100 ms late, slices of 7 bytes, 10 resets, nothing for 1.5 s × 3',
        load: report,
        difference,
        times,
      });
      expectExact(report, difference);
      expectInTime(times);
      expect(app.workers()).toEqual(workers);
    } finally {
      await link.close();
    }
  },
  minute,
);
