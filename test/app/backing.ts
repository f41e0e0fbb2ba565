import { startRedis } from '../support/redis.ts';

/** The settings without which your service does not start, for tests that need nothing else of it. */
export const required = {};

/**
 * Starts what the service needs beside it to survive the faults of test/faults: REWRITE THIS for your own service.
 *
 * @returns the environment variables by which the service finds it.
 */
export async function startBacking(): Promise<Record<string, string>> {
  const redis = await startRedis({ appendOnly: true });
  return { REDIS_URL: redis.url };
}
