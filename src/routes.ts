import { METHODS } from 'node:http';
import Router from '@koa/router';
import { answerHits } from './answer.ts';
import type { Counter } from './counter.ts';

/** The table of routes. ADD YOURS HERE. */
export function createRouter(counter: Counter): Router {
  const router = new Router({ methods: METHODS }); // every method is known, so a wrong one is 405, never 501

  // Before GET, which would answer HEAD too: looking is not visiting.
  router.head('/', (ctx) => {
    ctx.status = 200;
  });

  router.get('/', async (ctx) => {
    answerHits(ctx, await counter.hit(ctx.state.requestId));
  });

  // Alive: this process answers. Asks nobody else, or a restart would be the answer to a dead Redis.
  router.get('/livez', (ctx) => {
    ctx.body = 'alive\n';
  });

  // Ready: a visit would be counted now.
  router.get('/readyz', async (ctx) => {
    if (ctx.draining) ctx.throw(503, 'stopping', { expose: true });
    await counter.ready();
    ctx.body = 'ready\n';
  });

  return router;
}
