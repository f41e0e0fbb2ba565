import { startRedis } from '../support/redis.ts';

/**
 * Starts what the service needs beside it to survive the faults of test/faults: Redis, for the polls.
 *
 * @returns the environment variables by which the service finds it.
 */
export async function startBacking(): Promise<Record<string, string>> {
  const redis = await startRedis({ appendOnly: true });
  return { REDIS_URL: redis.url };
}
