import { readdirSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { expectInTime, startService, startServiceAtPort } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { sample } from '../support/judgement.ts';
import { now } from '../support/load.ts';
import { childrenOf, stopAll, temporaryDirectory } from '../support/processes.ts';
import { delay, waitFor } from '../support/wait.ts';
import { sendAll } from './bytes.ts';
import { malformed } from './malformed.ts';

const minute = 60_000;
const limit = 5 * minute; // for a machine that is busy with other things

afterEach(stopAll, minute);

test(
  '12: a malformed request is the client’s mistake: no crash, no error of the server, nothing done',
  async () => {
    for (const start of [startService, startServiceAtPort]) {
      const service = await start();
      const workers = service.app.workers();
      const { statuses, seen } = await sendAll(service, malformed, 50);
      const verdict = await service.judge();
      const way = service.nginx ? 'through nginx' : 'direct';
      addRow({
        row: `12 ${way}`,
        fault: `${malformed.length} malformed requests, ${way}`,
        verdict,
        seen,
      });
      expect(malformed.length).toBeGreaterThanOrEqual(120);
      expect(statuses.wrong).toEqual([]);
      expect(verdict.wrong).toEqual([]);
      expect(service.app.workers()).toEqual(workers);
      await stopAll();
    }
  },
  limit,
);

test(
  '13: slow, idle and rude clients cost the others nothing, and leave nothing behind',
  async () => {
    const service = await startService();
    const { app, nginx } = service;
    const processes = [...app.workers(), ...childrenOf(nginx.pid)];
    const descriptors = () => processes.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
    await service.startLoad({ requests: 1_000 }).ended;
    await delay(1_500); // nginx closes its idle connections to the app soon
    const baseline = descriptors();

    const sockets: Socket[] = [];
    const open = () => {
      const socket = connect({ port: nginx.port }).on('error', () => {});
      sockets.push(socket);
      return socket;
    };
    const whole = 'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const idle = Array.from({ length: 2_000 }, open);
    for (const socket of idle) socket.write(whole);
    await waitFor(() => idle.every(({ bytesRead }) => bytesRead > 0), '2,000 clients to be answered');
    const slow = Array.from({ length: 200 }, open);
    let sent = 0;
    const drip = setInterval(() => {
      for (const socket of slow) socket.write(whole[sent] ?? '');
      sent = Math.min(sent + 1, 30); // never the end
    }, 200);
    const load = service.startLoad({ rate: 500 });
    for (let rude = 0; rude < 1_000; rude++) {
      const socket = open();
      socket.on('connect', () => {
        const begin = now();
        socket.write(`GET ${sample.path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
        setTimeout(() => {
          socket.resetAndDestroy();
          service.add({ begin, end: now(), error: 'aborted' });
        }, Math.random() * 5);
      });
      if (rude % 5 === 0) await delay(20);
    }
    await delay(2_000);
    const most = descriptors();
    const report = await load.stop();
    clearInterval(drip);
    for (const socket of sockets) socket.destroy();
    await waitFor(() => descriptors() <= baseline, 'the descriptors to be closed');
    const verdict = await service.judge();
    const times = [{ what: 'p99', took: report.p99, bar: 100 }];
    addRow({
      row: '13',
      fault: '200 slow, 2,000 idle and 1,000 aborting clients beside 500 requests a second',
      load: report,
      verdict,
      times,
      seen: `descriptors ${baseline}, ${most}, ${descriptors()}`,
    });
    expect(report).toMatchObject({ ok: report.sent, failed: {}, refused: 0 });
    expectInTime(times);
    expect(verdict.wrong).toEqual([]); // what the aborting ones asked for may have been done
    expect(most).toBeGreaterThan(baseline + 2_200);
  },
  limit,
);

test(
  '13: one client behind a named proxy that sends 9,000 bodies slowly costs the others nothing',
  async () => {
    const proxies = join(temporaryDirectory(), 'proxies.conf');
    writeFileSync(proxies, 'set_real_ip_from 127.0.0.1;');
    const service = await startService({ included: { proxies } });
    const { port } = service.nginx;
    const head =
      'POST / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nContent-Length: 16384\r\n\r\n';
    const sockets: Socket[] = [];
    const open = () => sockets.filter(({ readyState }) => readyState === 'open');
    for (let i = 0; i < 9_000; i++) {
      const socket = connect({ port }, () => socket.write(head)).on('error', () => {});
      sockets.push(socket);
      if (i % 100 === 0) await delay(10);
    }
    const drip = setInterval(() => {
      for (const socket of open()) socket.write('x');
    }, 4_000); // nginx gives up a body of which nothing comes for 10 s
    const others = { ...sample.headers, 'X-Forwarded-For': '203.0.113.10' };
    let slowest = 0;
    for (const pause of [0, 1_000, 1_000, 9_000, 9_000]) {
      await delay(pause);
      const begin = now();
      await Promise.all(Array.from({ length: 5 }, () => service.ask(others)));
      slowest = Math.max(slowest, now() - begin);
    }
    const kept = open().length;
    clearInterval(drip);
    for (const socket of sockets) socket.destroy();
    const verdict = await service.judge();
    const times = [{ what: 'slowest', took: slowest, bar: 200 }];
    addRow({
      row: '13 bodies',
      fault: '9,000 slow bodies of one client behind a named proxy, 25 requests of others meanwhile',
      verdict,
      times,
      seen: `${kept} connections kept`,
    });
    expect(verdict).toEqual({ wrong: [], unacknowledged: 0 });
    expect(kept).toBe(256);
    expectInTime(times);
  },
  limit,
);
