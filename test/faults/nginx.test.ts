import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import {
  type Address,
  childrenOf,
  delay,
  numberIn,
  request,
  startApp,
  stopAll,
  waitFor,
} from '../processes.ts';
import { countDoubled, startLoad } from './load.ts';
import { malformed } from './malformed.ts';
import { countIn, expectInTime, startService } from './service.ts';
import { addRow } from './table.ts';

const minute = 60_000;

afterEach(stopAll, minute);

/** Sends bytes and resolves to all that comes back until the server closes, or has nothing more to say. */
function exchange(to: Address, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect('port' in to ? to : { path: to.socketPath });
    socket.setEncoding('latin1');
    socket.on('connect', () => socket.write(bytes, 'latin1'));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', () => {}); // it may close before it has read everything
    socket.on('close', () => resolve(text));
    socket.setTimeout(1_000, () => socket.destroy());
  });
}

test(
  '12: a malformed request is the client’s mistake: no crash, no error of the server, nothing counted',
  async () => {
    const { redis, app, to, count } = await startService();
    const direct = await startApp({ env: { REDIS_URL: redis.url, WEB_CONCURRENCY: '2' } });
    const workers = [...app.workers(), ...direct.workers()];
    const statuses: Record<string, number> = {};
    const wrong: string[] = [];
    let visits = 0;
    for (const [way, address] of Object.entries({ nginx: to, direct: direct.address })) {
      for (let at = 0; at < malformed.length; at += 50) {
        const batch = malformed.slice(at, at + 50);
        const answers = await Promise.all(batch.map((bytes) => exchange(address, bytes)));
        for (const [i, answer] of answers.entries()) {
          const found = [...answer.matchAll(/^HTTP\/1\.[01] (\d{3})/gm)].map(([, status]) => String(status));
          for (const status of found.length > 0 ? found : ['none']) {
            statuses[status] = (statuses[status] ?? 0) + 1;
            if (status.startsWith('5') && status !== '505') {
              wrong.push(`${way} ${status}: ${JSON.stringify(batch[i]?.slice(0, 120))}`);
            }
          }
          visits += answer.split("I've been seen").length - 1;
        }
      }
    }
    const difference = (await count()) - visits;
    addRow({
      row: '12',
      fault: `${malformed.length} malformed requests through nginx, and the same direct`,
      difference,
      seen: Object.entries(statuses)
        .map(([status, times]) => `${times} × ${status}`)
        .join(', '),
    });
    expect(malformed.length).toBeGreaterThanOrEqual(120);
    expect(wrong).toEqual([]);
    expect(difference).toBe(0);
    expect([...app.workers(), ...direct.workers()]).toEqual(workers);
  },
  minute,
);

test(
  '13: slow, idle and rude clients cost the others nothing, and leave nothing behind',
  async () => {
    const { app, nginx, to, count } = await startService();
    const processes = [...app.workers(), ...childrenOf(nginx.pid)];
    const descriptors = () => processes.reduce((sum, pid) => sum + readdirSync(`/proc/${pid}/fd`).length, 0);
    await startLoad({ to, visits: 1_000 }).ended;
    await delay(1_500); // nginx closes its idle connections to the app soon
    const baseline = descriptors();

    const sockets: Socket[] = [];
    const open = () => {
      const socket = connect({ port: nginx.port }).on('error', () => {});
      sockets.push(socket);
      return socket;
    };
    const whole = 'GET /favicon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const idle = Array.from({ length: 2_000 }, open);
    for (const socket of idle) socket.write(whole);
    await waitFor(() => idle.every(({ bytesRead }) => bytesRead > 0), '2,000 clients to be answered');
    const slow = Array.from({ length: 200 }, open);
    let sent = 0;
    const drip = setInterval(() => {
      for (const socket of slow) socket.write(whole[sent] ?? '');
      sent = Math.min(sent + 1, 40); // never the end
    }, 200);
    const load = startLoad({ to, rate: 500 });
    for (let rude = 0; rude < 1_000; rude++) {
      const socket = open();
      socket.on('connect', () => {
        socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
        setTimeout(() => socket.resetAndDestroy(), Math.random() * 5);
      });
      if (rude % 5 === 0) await delay(20);
    }
    await delay(2_000);
    const most = descriptors();
    const report = await load.stop();
    clearInterval(drip);
    for (const socket of sockets) socket.destroy();
    await waitFor(() => descriptors() <= baseline, 'the descriptors to be closed');
    const difference = (await count()) - 1_000 - report.ok;
    const times = [{ what: 'p99', took: report.p99, bar: 100 }];
    addRow({
      row: '13',
      fault: '200 slow, 2,000 idle and 1,000 aborting clients beside 500 visits a second',
      load: report,
      times,
      seen: `${difference} of the aborted were counted; descriptors ${baseline}, ${most}, ${descriptors()}`,
    });
    expect(report).toMatchObject({ ok: report.sent, failed: {}, refused: 0 });
    expectInTime(times);
    expect(countDoubled(report.numbers)).toBe(0);
    expect(difference).toBeGreaterThanOrEqual(0);
    expect(difference).toBeLessThanOrEqual(1_000);
    expect(most).toBeGreaterThan(baseline + 2_200);
  },
  minute,
);

test(
  '14: a request id that a client makes up suppresses no visit and changes none',
  async () => {
    const { redis, to, count } = await startService();
    const forged = 'a'.repeat(32);
    const headers = { 'X-Request-ID': forged };
    const numbers: number[] = [];
    for (let visit = 0; visit < 1_000; visit += 50) {
      const answers = await Promise.all(Array.from({ length: 50 }, () => request(to, '/', { headers })));
      numbers.push(...answers.map(({ body }) => numberIn(body)));
    }
    const through = await count();

    const direct = await startApp({ env: { REDIS_URL: redis.url, WEB_CONCURRENCY: '2' } });
    const ids = [
      'forged',
      '',
      'A'.repeat(32),
      '0'.repeat(31),
      '0'.repeat(33),
      `${'0'.repeat(31)}g`,
      '../visits',
      '*',
    ];
    const statuses = await Promise.all(
      ids.map(async (id) => (await request(direct.address, '/', { headers: { 'X-Request-ID': id } })).status),
    );
    const refused = statuses.filter((status) => status === 400).length;
    addRow({
      row: '14',
      fault: 'forged request ids',
      seen: `${through} of 1,000 counted through nginx; direct: ${refused} of ${ids.length} refused`,
    });
    expect(through).toBe(1_000);
    expect(new Set(numbers).size).toBe(1_000);
    expect(refused).toBe(ids.length);
    expect(await countIn(redis)).toBe(1_000);
  },
  minute,
);
