import { answerAllocations, createMemory } from './memory-store.ts';
import type { Channel, Context } from './service.ts';

/**
 * What lives in the primary process, of which there is one: without Redis, the count. Called once, before the first
 * worker is forked.
 *
 * @returns what answers one worker; the server calls it with each new worker's channel.
 */
export function openPrimary({
  config,
  log,
  deduplicationWindow,
}: Pick<Context, 'config' | 'log' | 'deduplicationWindow'>): (worker: Channel) => void {
  if (config.redisUrl !== undefined) {
    log.info(`the count is kept in Redis at ${new URL(config.redisUrl).host}`);
    return () => {};
  }
  log.info('the count is kept in this process and is lost at its exit (set REDIS_URL to keep it)');
  const allocate = createMemory(deduplicationWindow);
  return (worker) => answerAllocations(worker, allocate);
}
