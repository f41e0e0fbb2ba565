/** The whole service under test: what it needs beside it, the forked app on a unix socket, nginx; its load and its judge. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { type App, type AppOptions, startApp } from '../app.ts';
import type { Exchange, Verdict } from '../history.ts';
import { startBacking } from '../judgement.ts';
import { ask, judgeLoad, type Load, type LoadOptions, startLoad } from '../load.ts';
import { type Nginx, startNginx } from '../nginx.ts';
import { temporaryDirectory } from '../processes.ts';
import { type Address, type Answer, request, workerOf } from '../requests.ts';
import { waitFor } from '../wait.ts';
import type { Time } from './table.ts';

/** All that one service has been asked, from its first request on. */
export interface Trial {
  /** Where clients go. */
  to: Address;
  startLoad(options?: Partial<LoadOptions>): Load;
  /** Adds what a test has asked by other means. */
  add(...exchanges: Exchange[]): void;
  /** Asks once, as the load does or with other headers; rejects if the answer is not 200. */
  ask(headers?: Record<string, string>): Promise<Answer>;
  /** Asks one last time, of another address if one is given, and judges the whole history. All loads have ended. */
  judge(lastTo?: Address): Promise<Verdict>;
}

export interface ServiceAtPort extends Trial {
  app: App;
  nginx?: Nginx;
  /** What the app was started with; another instance is of the same service with it. */
  env: Record<string, string>;
}

export interface Service extends ServiceAtPort {
  nginx: Nginx;
}

/** `backing`: the environment variables of what was started already. */
export type ServiceOptions = AppOptions & { backing?: Record<string, string> };
type NginxOptions = Pick<NonNullable<Parameters<typeof startNginx>[1]>, 'included'>;

/** The service behind nginx. */
export async function startService({
  included = {},
  ...options
}: ServiceOptions & NginxOptions = {}): Promise<Service> {
  const socketPath = join(temporaryDirectory(), 'app.sock');
  const { app, env } = await startAppWithBacking({ ...options, env: { ...options.env, LISTEN: socketPath } });
  const nginx = await startNginx(socketPath, { included });
  return { app, env, nginx, ...createTrial({ port: nginx.port }) };
}

/** The service at a port, with no nginx in front. */
export async function startServiceAtPort(options: ServiceOptions = {}): Promise<ServiceAtPort> {
  const { app, env } = await startAppWithBacking(options);
  return { app, env, ...createTrial(app.address) };
}

async function startAppWithBacking(
  options: ServiceOptions,
): Promise<{ app: App; env: Record<string, string> }> {
  const backing = options.backing ?? (await startBacking());
  const env = { WEB_CONCURRENCY: '2', ...backing, ...options.env };
  return { app: await startApp({ ...options, env }), env };
}

export function createTrial(to: Address): Trial {
  const history: Exchange[] = [];
  return {
    to,
    startLoad(options) {
      const load = startLoad({ to, busy: 50, pausing: 40, ...options });
      load.ended.then((report) => {
        for (const exchange of report.history) history.push(exchange);
      });
      return load;
    },
    add(...exchanges) {
      history.push(...exchanges);
    },
    ask: (headers) => ask(to, history, headers),
    judge: (lastTo = to) => judgeLoad(lastTo, history),
  };
}

/** The rounds of a fault, or the requests of a load. FAULTS=short: a fifth, to see all faults in a few minutes. */
const short = process.env.FAULTS === 'short';
export const rounds = (all: number) => (short ? Math.ceil(all / 5) : all);

/**
 * A machine that is busy with other things makes everything late. So the table says which bars were missed, and a test
 * fails only where that cannot be the reason. FAULTS=short, as CI runs it, decides by counts alone.
 */
export function expectInTime(times: Time[]): void {
  if (short) return;
  for (const time of times)
    expect({ ...time, late: time.took > 10 * time.bar }).toEqual({ ...time, late: false });
}

/** Waits until a worker answers that is none of the given ones; resolves to the milliseconds that it took. */
export async function waitForSuccessor(app: App, before: number[], limit = 60_000): Promise<number> {
  const begin = performance.now();
  const answers = async () => workerOf(await request(app.address, '/livez', { timeout: 5_000 }));
  await waitFor(async () => !before.includes(await answers()), 'a new worker to answer', limit);
  return performance.now() - begin;
}

/** How many workers were replaced because they died. */
export function countReplaced(app: App): number {
  return app.log().filter(({ msg }) => /is replaced/.test(msg)).length;
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
