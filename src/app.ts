import { randomBytes } from 'node:crypto';
import Koa, { type Context, type Middleware } from 'koa';
import type { Counter } from './counter.ts';
import { createRouter } from './routes.ts';

declare module 'koa' {
  interface DefaultState {
    /** 32 hexadecimal digits: the same for all tries of one request. */
    requestId: string;
  }
  interface DefaultContext {
    /** Set on `app.context` when the whole service is about to end. */
    draining?: boolean;
  }
}

/** The application: routes on a counter. It does not listen, and emits 'error' for each failed request. */
export function createApp(counter: Counter): Koa {
  const app = new Koa();
  const router = createRouter(counter);
  app.use(refuseMalformed);
  app.use(identifyRequest);
  app.use(router.routes());
  app.use(router.allowedMethods());
  return app;
}

// What Node.js lets through, if only until it has read on; nginx in front refuses both itself.
const refuseMalformed: Middleware = (ctx, next) => {
  if (!hasPath(ctx)) ctx.throw(400, 'malformed URL');
  if (!/^(chunked)?$/i.test(ctx.get('Transfer-Encoding'))) ctx.throw(400, 'unknown Transfer-Encoding');
  return next();
};

function hasPath(ctx: Context): boolean {
  try {
    return ctx.path !== null; // an absolute URL is parsed here: `GET http://[::1 HTTP/1.1` has none
  } catch {
    return false;
  }
}

// nginx gives each request an id, and the same id to each of its tries; without nginx the request gets one here.
const identifyRequest: Middleware = (ctx, next) => {
  const given = ctx.headers['x-request-id'];
  if (given === undefined) {
    ctx.state.requestId = randomBytes(16).toString('hex');
  } else if (typeof given === 'string' && /^[0-9a-f]{32}$/.test(given)) {
    ctx.state.requestId = given;
  } else {
    ctx.throw(400, 'X-Request-ID must be 32 hexadecimal digits, in lower case');
  }
  return next();
};
