/** What the counter promises when Redis fails: rows of the table that test/faults prints. */
import { appendFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import type { AppOptions } from '../../support/app.ts';
import {
  countReplaced,
  expectInTime,
  pickOne,
  residentMemory,
  rounds,
  type Service,
  startService,
  waitForSuccessor,
} from '../../support/battery/harness.ts';
import { addRow } from '../../support/battery/table.ts';
import { expectExact } from '../../support/load.ts';
import { atEnd, killIfRunning, stopAll, temporaryDirectory } from '../../support/processes.ts';
import { type Redis, startRedis } from '../../support/redis.ts';
import { request } from '../../support/requests.ts';
import { delay, waitFor } from '../../support/wait.ts';
import { type Direction, openLink } from './link.ts';

const minute = 60_000;
const limit = 5 * minute; // for a machine that is busy with other things

afterEach(stopAll, minute);

/** The service with a Redis that a test may harm. `data`: where Redis keeps its files. */
async function startWithRedis(options: AppOptions = {}): Promise<Service & { redis: Redis; data: string }> {
  const data = temporaryDirectory();
  const redis = await startRedis({ appendOnly: true, args: ['--dir', data] });
  const service = await startService({ ...options, backing: { REDIS_URL: redis.url } });
  return { ...service, redis, data };
}

test(
  '5: no visit is lost or counted twice by a Redis that is killed and comes back, once with a torn file',
  async () => {
    const service = await startWithRedis();
    const { redis, data } = service;
    const load = service.startLoad();
    const kills = rounds(4);
    for (let kill = 1; kill <= kills; kill++) {
      await delay(1_000);
      await redis.kill();
      await delay(300);
      if (kill === kills) tearTail(data);
      await redis.start();
    }
    await delay(1_000);
    const report = await load.stop();
    const verdict = await service.judge();
    addRow({
      row: '5 killed',
      fault: `Redis killed × ${kills}, its file torn once`,
      load: report,
      kills,
      restarts: kills,
      verdict,
    });
    expectExact(report, verdict);
  },
  limit,
);

test(
  '5: a Redis that is frozen for longer than a visit is retried refuses visits for a while and loses none',
  async () => {
    const service = await startWithRedis();
    const { redis } = service;
    const [busy, pausing] = [50, 40];
    const load = service.startLoad({ busy, pausing, comeAgain: true });
    const freezes = rounds(2);
    for (let freeze = 1; freeze <= freezes; freeze++) {
      await delay(1_000);
      redis.freeze();
      await delay(3_000);
      redis.thaw();
      await delay(1_000);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    const times = [{ what: 'nothing is pending for longer than', took: report.max, bar: 6_000 }];
    addRow({
      row: '5 frozen',
      fault: `Redis frozen for 3 s × ${freezes}`,
      load: report,
      verdict,
      times,
      seen: 'a refused visit came again after Retry-After; max is over its tries',
    });
    expect(report).toMatchObject({ ok: report.sent, failed: {} });
    expectInTime(times);
    expect(verdict.wrong).toEqual([]);
    // Redis may have counted what was in flight and been frozen before it could say so: nobody can know until it is
    // back, which is longer than a visit waits. All that came later must not count (store.ts, deadline).
    expect(verdict.unacknowledged).toBeLessThanOrEqual((busy + pausing) * freezes);
  },
  limit,
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
    const service = await startWithRedis({ env: { WEB_CONCURRENCY: '3' } });
    const { redis, app } = service;
    const load = service.startLoad();
    const kills = rounds(10);
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
    while ((await load.look()).sent < rounds(35_000)) await delay(100);
    const report = await load.stop();
    const verdict = await service.judge();
    addRow({
      row: '6',
      fault: `Redis and two of three workers killed together × ${kills}`,
      load: report,
      kills: 3 * kills,
      restarts: countReplaced(app),
      verdict,
    });
    expectExact(report, verdict);
  },
  limit,
);

test(
  '7: while Redis is away visits are refused in time, and counted again within a second of its return',
  async () => {
    const service = await startWithRedis();
    const { redis, app, nginx } = service;
    const probes: Record<string, number> = {};
    const load = service.startLoad({ busy: 460 });
    await redis.kill();
    const begin = performance.now();
    const memory: number[] = [];
    for (let second = 1; second <= 30; second++) {
      for (const path of ['/livez', '/readyz']) {
        const { status } = await request(path === '/livez' ? nginx : nginx.private, path);
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
    await waitFor(
      async () => (await request(nginx.private, '/readyz')).status === 200,
      'Redis to be found again',
    );
    const verdict = await service.judge();
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
      verdict,
      times,
      seen:
        `${Object.entries(probes)
          .map(([seen, count]) => `${count} × ${seen}`)
          .join(', ')}; ` + `memory × ${growth.toFixed(2)} from second 10 to 30`,
    });
    expect(report).toMatchObject({ refused: report.sent - report.ok, failed: {} });
    expect(refusal).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(probes).toEqual({ '/livez 200': 30, '/readyz 503': 30 });
    expect(growth).toBeLessThan(1.2); // 10 kB kept of each refused visit would be more
    expect(verdict.wrong).toEqual([]);
    expectInTime(times);
  },
  limit,
);

test(
  '11: a bad network between app and Redis costs time, but no visit and no worker',
  async () => {
    const redis = await startRedis({ appendOnly: true });
    const link = await openLink(redis.port);
    try {
      const service = await startService({ backing: { REDIS_URL: link.url } });
      const { app } = service;
      const workers = app.workers();
      const load = service.startLoad();
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
        link.change({ starved: 'both ways' });
        await delay(1_500);
        link.change({});
        await delay(500);
      }
      const report = await load.stop();
      const verdict = await service.judge();
      const times = [{ what: 'no visit takes longer than', took: report.max, bar: 3_000 }];
      addRow({
        row: '11',
        fault: 'between app and Redis: 20–100 ms late, slices of 7 bytes, 10 resets, nothing for 1.5 s × 3',
        load: report,
        verdict,
        times,
      });
      expectExact(report, verdict);
      expectInTime(times);
      expect(app.workers()).toEqual(workers);
    } finally {
      await link.close();
    }
  },
  limit,
);

const replication = async (redis: Redis) => String(await redis.command('INFO', 'replication'));
const offsetIn = async (redis: Redis) => /_repl_offset:(\d+)/.exec(await replication(redis))?.[1];

/** A Redis whose replica takes over without a lost write, as a managed one does it. `demote` changes the old one's part. */
async function startPair(demote: (old: Redis, next: Redis) => Promise<unknown>) {
  const old = await startRedis({ appendOnly: true, args: ['--repl-diskless-sync-delay', '0'] });
  const next = await startRedis({ appendOnly: true });
  await next.command('REPLICAOF', '127.0.0.1', String(old.port));
  await waitFor(async () => /link_status:up/.test(await replication(next)), 'the replica');
  const link = await openLink(old.port);
  atEnd(link.close);
  return {
    url: link.url,
    async failOver() {
      await old.command('CLIENT', 'PAUSE', '10000', 'WRITE');
      await waitFor(async () => (await offsetIn(old)) === (await offsetIn(next)), 'the replica to have all');
      await next.command('REPLICAOF', 'NO', 'ONE');
      await demote(old, next);
      await old.command('CLIENT', 'UNPAUSE');
      await delay(500); // for a while the address leads to the old one
      link.redirect(next.port);
    },
  };
}

test.each<[string, Parameters<typeof startPair>[0]]>([
  ['READONLY', (old, next) => old.command('REPLICAOF', '127.0.0.1', String(next.port))],
  [
    'MASTERDOWN',
    async (old) => {
      await old.command('CONFIG', 'SET', 'replica-serve-stale-data', 'no');
      await old.command('REPLICAOF', '127.0.0.1', '1');
    },
  ],
  ['NOREPLICAS', (old) => old.command('CONFIG', 'SET', 'min-replicas-to-write', '1')],
])(
  '17: a fail-over that keeps connections, to a server that answers %s, is over within a second',
  async (reply, demote) => {
    const pair = await startPair(demote);
    const service = await startService({ backing: { REDIS_URL: pair.url } });
    const load = service.startLoad();
    await delay(1_000);
    await pair.failOver();
    const begin = performance.now();
    const isReady = async () => (await request(service.nginx.private, '/readyz')).status === 200;
    await waitFor(isReady, 'the service to be ready', 20_000);
    const times = [{ what: 'back within', took: performance.now() - begin, bar: 1_000 }];
    await delay(1_000);
    const report = await load.stop();
    const verdict = await service.judge();
    const fault = `Redis fails over and keeps its connections (${reply})`;
    addRow({ row: `17 ${reply}`, fault, load: report, verdict, times });
    expectExact(report, verdict);
    expectInTime(times);
    const said = service.app.log().map(({ msg }) => msg.slice(0, 13));
    expect(said.filter((text) => text === 'Redis is away')).toHaveLength(2); // one of each worker
    expect(said.filter((text) => text === 'Redis is back')).toHaveLength(2);
  },
  limit,
);

test.each<Direction>(['to Redis', 'from Redis'])(
  '18: a network that carries nothing %s for a while costs time, but no visit and no worker',
  async (direction) => {
    const redis = await startRedis({ appendOnly: true });
    const link = await openLink(redis.port);
    atEnd(link.close);
    const service = await startService({ backing: { REDIS_URL: link.url } });
    const workers = service.app.workers();
    const load = service.startLoad();
    const partitions = rounds(5);
    for (let partition = 1; partition <= partitions; partition++) {
      await delay(1_000);
      link.change({ starved: direction });
      await delay(1_500);
      link.change({});
    }
    await delay(1_000);
    const report = await load.stop();
    const verdict = await service.judge();
    const times = [{ what: 'no visit takes longer than', took: report.max, bar: 3_000 }];
    const fault = `nothing is carried ${direction} for 1.5 s × ${partitions}`;
    addRow({ row: `18 ${direction}`, fault, load: report, verdict, times });
    expectExact(report, verdict);
    expectInTime(times);
    expect(service.app.workers()).toEqual(workers);
  },
  limit,
);

test(
  '19: a resolver that takes longer than a visit is retried refuses visits for as long, and loses none',
  async () => {
    const redis = await startRedis({ appendOnly: true });
    const link = await openLink(redis.port);
    atEnd(link.close);
    const lookup = 5_000;
    const service = await startService({
      backing: { REDIS_URL: link.url.replace('127.0.0.1', 'redis.test') },
      env: { LOOKUP_DELAY: String(lookup) },
      nodeArguments: ['--require', join(__dirname, 'lookup.cjs')],
    });
    const workers = service.app.workers();
    const isReady = async () => (await request(service.nginx.private, '/readyz')).status === 200;
    await waitFor(isReady, 'Redis to be found');
    const [busy, pausing] = [50, 40];
    const load = service.startLoad({ busy, pausing });
    const losses = rounds(3);
    let slowest = 0;
    for (let loss = 1; loss <= losses; loss++) {
      await delay(2_000);
      link.reset();
      const begin = performance.now();
      await waitFor(async () => !(await isReady()), 'the loss to be noticed');
      await waitFor(isReady, 'Redis to be found again');
      slowest = Math.max(slowest, performance.now() - begin);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    const times = [{ what: 'back within', took: slowest, bar: lookup + 1_000 }];
    const fault = `connections to Redis reset × ${losses}, its name looked up in ${lookup / 1000} s`;
    addRow({ row: '19', fault, load: report, verdict, times });
    expect(report).toMatchObject({ ok: report.sent - report.refused, failed: {} });
    expect(verdict.wrong).toEqual([]);
    expect(verdict.unacknowledged).toBeLessThanOrEqual((busy + pausing) * losses); // in flight at a reset
    expectInTime(times);
    expect(service.app.workers()).toEqual(workers);
  },
  limit,
);
