/** What it costs to be watched: by open tabs, and by the server's own measuring. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Context } from 'koa';
import { WorkerMetrics } from '../../../src/server/worker-metrics.ts';
import { openEvents } from '../../support/events.ts';
import type { Stack } from './stacks.ts';
import { median, visit } from './wrk.ts';

/** Visits a second while 50 tabs show the number and 50 the plots, as a share of those without, by turns. */
export async function measureViewers(
  { port }: Stack,
  { rounds, seconds, connections }: { rounds: number; seconds: number; connections: number },
): Promise<number> {
  const ratios: number[] = [];
  await visit(port, connections, 2); // warm
  for (let round = 0; round < rounds; round++) {
    const alone = await visit(port, connections, seconds);
    const paths = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? '/events' : '/dashboard/events'));
    const viewers = await Promise.all(paths.map((path) => openEvents({ port }, path)));
    for (const { find } of viewers) await find(() => true, 'what a viewer sees first');
    const watched = await visit(port, connections, seconds);
    for (const viewer of viewers) viewer.close();
    await delay(1_000); // until the last of them is forgotten
    ratios.push(watched.perSecond / alone.perSecond);
  }
  return median(ratios);
}

/** Microseconds of processor time that a request is measured for. */
export async function measureMeasuring(): Promise<number> {
  const { middleware } = new WorkerMetrics();
  const ctx = { method: 'GET', status: 200, _matchedRoute: '/' } as unknown as Context;
  const next = async () => {};
  const times = 200_000;
  async function costOf(handle: () => Promise<unknown>): Promise<number> {
    const begin = process.cpuUsage();
    for (let i = 0; i < times; i++) await handle();
    const { user, system } = process.cpuUsage(begin);
    return (user + system) / times;
  }
  const costs: number[] = [];
  for (let round = 0; round < 9; round++)
    costs.push((await costOf(() => middleware(ctx as never, next))) - (await costOf(next)));
  return median(costs);
}
