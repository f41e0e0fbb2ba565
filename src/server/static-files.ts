import { send } from '@koa/send';
import type { Middleware } from 'koa';

export interface StaticFiles {
  /** The folder. */
  root: string;
  /** Whether pages of other hosts may show these in a frame, as the preview of an editor does. */
  framed: boolean;
}

/** As deploy/nginx.conf and a test say, too. A route may set others. */
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'";
const headers = { 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'strict-origin-when-cross-origin' };

/**
 * What nginx otherwise does: sets the headers that every answer has, and serves the files of a folder where no route
 * answers.
 */
export function serveFiles({ root, framed }: StaticFiles): Middleware {
  const ancestors = framed ? '' : "; frame-ancestors 'self'";
  return async (ctx, next) => {
    ctx.set({ ...headers, 'Content-Security-Policy': policy + ancestors });
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
