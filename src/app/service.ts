import type { Context, OpenService } from '../contract.ts';
import { createCounter } from './counter.ts';
import { createHours } from './hours.ts';
import { createLive } from './live.ts';
import { createPlots } from './plots.ts';
import { createRoutes } from './routes.ts';
import type { AppConfig } from './settings.ts';
import type { Store } from './store.ts';

/** What a worker runs. */
export const openService: OpenService<AppConfig> = async (context) => {
  const store = await openStore(context);
  const counter = createCounter(store, context);
  const hours = createHours(store);
  return {
    router: createRoutes(counter, createLive(store, context)),
    plots: { figures: createPlots(context.metrics, hours), redis: store.redis },
    ready: store.ready,
    async close() {
      hours.close();
      await store.close();
    },
  };
};

/** Redis' client is half of a worker's code: it is loaded only where it is used. */
async function openStore({ config, log, primary, deduplicationWindow }: Context<AppConfig>): Promise<Store> {
  if (config.redisUrl === undefined) {
    const { openMemoryStore } = await import('./memory-store.ts');
    return openMemoryStore(primary);
  }
  const { openRedisStore } = await import('./redis-store.ts');
  return openRedisStore(config.redisUrl, { password: () => config.redisPassword, log, deduplicationWindow });
}
