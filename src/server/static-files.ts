import { send } from '@koa/send';
import type { Middleware } from 'koa';

/**
 * Serves the files of a folder where no route answers: for a first look without nginx, which otherwise serves them.
 */
export function serveFiles(root: string): Middleware {
  return async (ctx, next) => {
    await next();
    if (ctx.status !== 404 || ctx.body !== undefined || !/^(GET|HEAD)$/.test(ctx.method)) return;
    try {
      await send(ctx, ctx.path, { root });
      if (ctx.fresh) ctx.status = 304;
    } catch (error) {
      if ((error as { status?: number }).status !== 404) throw error;
    }
  };
}
