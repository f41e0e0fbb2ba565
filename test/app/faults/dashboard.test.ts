/** What a flood of the dashboard must not do to the service: rows of the table that test/faults prints. */
import { connect } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import { expectInTime, residentMemory, rounds, startService } from '../../support/battery/harness.ts';
import { addRow } from '../../support/battery/table.ts';
import { openEvents } from '../../support/events.ts';
import { expectExact, startLoad } from '../../support/load.ts';
import { atEnd, stopAll } from '../../support/processes.ts';
import { request } from '../../support/requests.ts';
import { delay } from '../../support/wait.ts';

const minute = 60_000;
const limit = 5 * minute; // for a machine that is busy with other things

afterEach(stopAll, minute);

test(
  '24: 200 clients that ask for figures, controls at random and 300 streams that nobody reads hold up no visit',
  async () => {
    const service = await startService({ env: { DASHBOARD: 'open' } });
    const { app, nginx, to } = service;
    const memory = () => app.workers().reduce((sum, pid) => sum + residentMemory(pid), 0);
    const seconds = rounds(10);
    const rate = { busy: 50, pausing: 0, rate: 200 };

    await service.startLoad({ requests: 500 }).ended;
    const calm = service.startLoad(rate);
    await delay(seconds * 1_000);
    const { p99: without } = await calm.stop();
    const before = memory();

    const floods = ['latency.json', 'visits.json?bars=days'].map((path) =>
      startLoad({ to, busy: 100, request: { path: `/dashboard/figures/${path}`, headers: {} } }),
    );
    const streams = Array.from({ length: 300 }, () => {
      const socket = connect({ port: nginx.port }).on('error', () => {});
      socket.write('GET /dashboard/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
      return socket.pause();
    });
    atEnd(() => {
      for (const socket of streams) socket.destroy();
    });
    const statuses = new Set<number>();
    let flooding = true;
    const atRandom = Array.from({ length: 20 }, async () => {
      while (flooding) {
        const path = `/dashboard/figures/rate.json?points=${1 + Math.floor(Math.random() * 9_999)}`;
        statuses.add((await request(to, path)).status);
      }
    });
    const load = service.startLoad(rate);
    await delay(seconds * 1_000);
    const report = await load.stop();
    flooding = false;
    await Promise.all(atRandom);
    const asked = await Promise.all(floods.map((flood) => flood.stop()));
    const grown = (memory() - before) / 2 ** 20;
    const verdict = await service.judge();
    const times = [{ what: 'p99 of visits', took: report.p99, bar: 2 * without }];
    const figures = asked.reduce((sum, { ok }) => sum + ok, 0);
    const seen = `${figures} figures answered; ${Math.round(grown)} MiB more memory`;
    addRow({ row: '24', fault: 'a flood of the dashboard', load: report, verdict, times, seen });

    expectExact(report, verdict);
    expect(report.refused).toBe(0);
    for (const { failed } of asked) expect(failed).toEqual({});
    expect([...statuses].filter((status) => status !== 200 && status !== 503)).toEqual([]);
    expect(figures).toBeGreaterThan(0);
    expect(grown).toBeLessThan(100);
    expectInTime(times);
    const viewer = await openEvents(to, '/dashboard/events'); // whoever looks afterwards sees it
    await viewer.find(({ data }) => data.live !== undefined, 'a frame');
  },
  limit,
);
