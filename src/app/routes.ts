import Router from '@koa/router';
import type { Counter } from './counter.ts';
import type { Live } from './live.ts';
import { sendVisits } from './page.ts';

/** The table of routes. ADD YOURS HERE. */
export function createRoutes(counter: Counter, live: Live): Router {
  const router = new Router({ strict: true, sensitive: true }); // one spelling of a path, as in routes.conf

  // Before GET, which would answer HEAD, too, and count it.
  router.head('/', (ctx) => {
    ctx.set('Cache-Control', 'no-store');
    ctx.status = 200;
  });

  router.get('/', async (ctx) => {
    sendVisits(ctx, await counter.visit(ctx.state.requestId));
  });

  router.get('/events', (ctx) => {
    live.show(ctx);
  });

  return router;
}
