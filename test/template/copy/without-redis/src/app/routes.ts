import { json } from 'node:stream/consumers';
import Router from '@koa/router';
import type { Context } from 'koa';
import type { Log } from '../contract.ts';

/** Temperatures, from one unit to another. */
export function createRoutes(precision: number, log: Log): Router {
  const router = new Router();
  const fahrenheit = (celsius: number) => ({
    fahrenheit: Number(((celsius * 9) / 5 + 32).toFixed(precision)),
  });

  router.get('/units', (ctx) => {
    ctx.body = { units: ['celsius', 'fahrenheit'] };
  });

  router.get('/fahrenheit/:celsius', (ctx) => {
    const celsius = Number(ctx.params.celsius);
    if (Number.isNaN(celsius)) ctx.throw(400, 'degrees Celsius must be a number');
    ctx.body = fahrenheit(celsius);
  });

  router.post('/fahrenheit', async (ctx) => {
    const { celsius } = await readBody(ctx);
    if (typeof celsius !== 'number') ctx.throw(400, 'the body must be {"celsius": NUMBER}');
    log.info({ request_id: ctx.state.requestId, celsius }, 'converted');
    ctx.body = fahrenheit(celsius as number);
  });

  return router;
}

async function readBody(ctx: Context): Promise<{ celsius?: unknown }> {
  try {
    return Object(await json(ctx.req));
  } catch {
    return ctx.throw(400, 'the body is not JSON');
  }
}
