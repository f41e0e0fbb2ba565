import type { Context, OpenService } from '../contract.ts';
import { createCounter } from './counter.ts';
import { openDashboard } from './dashboard/dashboard.ts'; // dashboard
import { createRoutes } from './routes.ts';
import type { AppConfig } from './settings.ts';
import type { Store } from './store.ts';

/** What a worker runs. */
export const openService: OpenService<AppConfig> = async (context) => {
  const store = await openStore(context);
  const counter = createCounter(store, context);
  const router = createRoutes(counter);
  const dashboard = await openDashboard(context, store); // dashboard
  router.use(dashboard.router.routes()); // dashboard
  return {
    router,
    ready: store.ready,
    drain() {
      // End your streams here.
      dashboard.drain(); // dashboard
    },
    async close() {
      await dashboard.close(); // dashboard
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
