/** How many ids one Redis numbers in a second: the limit of the whole, however many workers there are. */
import { randomBytes } from 'node:crypto';
import { openRedisStore } from '../../../src/app/redis-store.ts';
import { deduplicationWindow } from '../../../src/server/retry.ts';
import { startRedis } from '../../support/redis.ts';
import { waitFor } from '../../support/wait.ts';
import { processorTimes } from './stacks.ts';

export interface Numbering {
  batchSize: number;
  perSecond: number;
  /** Microseconds of Redis' processor time. */
  cost: number;
}

/** Eight connections, each with one batch under way, as eight workers have. */
export async function measureNumbering(batchSize: number, seconds: number): Promise<Numbering> {
  const redis = await startRedis({ appendOnly: true });
  const [, pid] = /process_id:(\d+)/.exec(String(await redis.command('INFO', 'server'))) ?? [];
  const log = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} };
  const stores = Array.from({ length: 8 }, () => openRedisStore(redis.url, { log, deduplicationWindow }));
  await waitFor(() => Promise.all(stores.map((store) => store.ready())), 'the connections');
  const server = { name: 'redis', port: 0, commands: [], parts: { redis: [Number(pid)] } };
  const costBefore = processorTimes(server).redis as number;
  const begin = performance.now();
  let count = 0;
  await Promise.all(
    stores.map(async ({ allocate }) => {
      while (performance.now() - begin < seconds * 1_000) {
        const ids = Array.from({ length: batchSize }, () => randomBytes(16).toString('hex'));
        const numbers = await allocate(ids, Date.now() + 10_000);
        count += numbers.length; // not before the await: the eight take turns
      }
    }),
  );
  const took = (performance.now() - begin) / 1_000;
  const cost = ((processorTimes(server).redis as number) - costBefore) / count;
  for (const store of stores) await store.close();
  return { batchSize, perSecond: count / took, cost };
}
