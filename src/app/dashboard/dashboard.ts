/** The number that lives and the plots: the only file of this folder that the rest of the app knows. */
import Router from '@koa/router';
import type { Context } from '../../contract.ts';
import type { RedisStore } from '../redis-store.ts';
import type { AppConfig } from '../settings.ts';
import type { Store } from '../store.ts';
import type { History } from './history.ts';
import { createLive } from './live.ts';
import { openMemoryHistory } from './memory-history.ts';
import { dashboardPage } from './page.ts';
import { type Plot, toCsv } from './plot.ts';
import { PlotFeed } from './plot-feed.ts';
import { createPlots } from './plots.ts';
import { startReporting } from './seconds.ts';
import { createHourlyNote } from './visits.ts';

export interface Dashboard {
  router: Router;
  /** Ends the streams. */
  drain(): void;
  /** Writes down what is left to tell. To be called before the store is closed. */
  close(): Promise<void>;
}

export async function openDashboard(context: Context<AppConfig>, store: Store): Promise<Dashboard> {
  const history = await openHistory(context, store);
  const live = createLive(history);
  const router = new Router();
  router.get('/events', (ctx) => live.stream(ctx));
  if (!context.config.dashboard) {
    router.get('/dashboard', (ctx) => {
      ctx.status = 404;
      ctx.body = 'The plots are switched off. DASHBOARD=true in the environment switches them on.\n';
    });
    return { router, drain: live.drain, async close() {} };
  }
  const { log, metrics } = context;
  const plots = createPlots(metrics, history);
  const feed = new PlotFeed(plots, history, log);
  const stopReporting = startReporting(plots, { metrics, history, log });
  const noteCount = createHourlyNote(history);
  const noting = setInterval(() => noteCount().catch(() => {}), 1_000); // if Redis is away, in the next second
  addPlotRoutes(router, plots, feed);
  return {
    router,
    drain() {
      live.drain();
      feed.drain();
    },
    async close() {
      clearInterval(noting);
      await stopReporting();
    },
  };
}

async function openHistory({ primary }: Context, store: Store): Promise<History> {
  if (!('command' in store)) return openMemoryHistory(primary);
  const { openRedisHistory } = await import('./redis-history.ts');
  return openRedisHistory(store as RedisStore);
}

function addPlotRoutes(router: Router, plots: Plot[], feed: PlotFeed): void {
  router.get('/dashboard', (ctx) => {
    if (ctx.path.endsWith('/')) return ctx.redirect('../dashboard'); // the page's links are relative
    ctx.set('Cache-Control', 'no-cache');
    ctx.type = 'html';
    ctx.body = dashboardPage(plots);
  });
  router.get('/dashboard/events', (ctx) => feed.stream(ctx));
  for (const plot of plots) {
    router.get(`/dashboard/${plot.name}.json`, async (ctx) => {
      ctx.set('Cache-Control', 'no-store');
      ctx.body = await feed.read(plot, String(ctx.query.choice ?? ''));
    });
    router.get(`/dashboard/${plot.name}.csv`, async (ctx) => {
      const points = await feed.read(plot, String(ctx.query.choice ?? ''));
      ctx.set('Cache-Control', 'no-store');
      ctx.attachment(`${plot.name}.csv`);
      ctx.type = 'csv';
      ctx.body = toCsv(points);
    });
  }
}
