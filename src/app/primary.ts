import type { OpenPrimary } from '../contract.ts';
import { answerChannel, createMemory } from './memory-store.ts';
import type { AppConfig } from './settings.ts';

/** What lives in the primary process, of which there is one: without Redis, the count. */
export const openPrimary: OpenPrimary<AppConfig> = ({ config, log, deduplicationWindow }) => {
  if (config.redisUrl !== undefined) {
    log.info(`the count is kept in Redis at ${new URL(config.redisUrl).host}`);
    return () => {};
  }
  log.info('the count is kept in this process and is lost at its exit (set REDIS_URL to keep it)');
  const memory = createMemory(deduplicationWindow);
  return (worker) => answerChannel(worker, memory);
};
