/** The whole service under test: Redis that keeps what it acknowledged, the forked app on a unix socket, nginx. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import {
  type Address,
  type App,
  type AppOptions,
  type Nginx,
  type Redis,
  request,
  startApp,
  startNginx,
  startRedis,
  temporaryDirectory,
  waitFor,
} from '../processes.ts';
import { countDoubled, type Report } from './load.ts';
import type { Time } from './table.ts';

export interface Service {
  redis: Redis;
  app: App;
  nginx: Nginx;
  /** Where clients go. */
  to: Address;
  /** The count itself, asked of Redis. */
  count(): Promise<number>;
  /** Where Redis keeps its data. */
  data: string;
}

export async function startService(options: AppOptions & { redis?: Redis } = {}): Promise<Service> {
  const data = temporaryDirectory();
  const redis = options.redis ?? (await startRedis({ appendOnly: true, args: ['--dir', data] }));
  const socketPath = join(temporaryDirectory(), 'app.sock');
  const app = await startApp({
    ...options,
    env: { REDIS_URL: redis.url, LISTEN: socketPath, WEB_CONCURRENCY: '2', ...options.env },
  });
  const nginx = await startNginx(socketPath);
  return { redis, app, nginx, to: { port: nginx.port }, count: () => countIn(redis), data };
}

export async function countIn(redis: Redis): Promise<number> {
  return Number(await redis.command('GET', 'visits'));
}

/** Every visit was answered with a number of its own, and the count is just that many. */
export function expectExact(report: Report, difference: number): void {
  expect(report).toMatchObject({ ok: report.sent, failed: {}, refused: 0 });
  expect(countDoubled(report.numbers)).toBe(0);
  expect(difference).toBe(0);
}

/**
 * A machine that is busy with other things makes everything late, so the table tells which bars were missed, and a
 * test fails only where that cannot be the reason.
 */
export function expectInTime(times: Time[]): void {
  for (const time of times)
    expect({ ...time, late: time.took > 5 * time.bar }).toEqual({ ...time, late: false });
}

/** The process id of the worker that answers a new connection to the app. */
export async function whoAnswers(app: App): Promise<number> {
  const { headers } = await request(app.address, '/livez', { timeout: 5_000 });
  return Number(String(headers['x-worker']).split(':')[1]);
}

/** Waits until a worker answers that is none of the given ones; resolves to the milliseconds that it took. */
export async function waitForSuccessor(app: App, before: number[], limit = 10_000): Promise<number> {
  const begin = performance.now();
  await waitFor(async () => !before.includes(await whoAnswers(app)), 'a new worker to answer', limit);
  return performance.now() - begin;
}

/** Bytes of memory that a process has; 0 if it has ended. */
export function residentMemory(pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}

export function pickOne<T>(from: T[]): T {
  const one = from[Math.floor(Math.random() * from.length)];
  if (one === undefined) throw new Error('nothing to pick from');
  return one;
}
