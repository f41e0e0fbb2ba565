import { randomUUID } from 'node:crypto';
import { type IncomingMessage, METHODS } from 'node:http';
import Router from '@koa/router';
import Koa, { type Context, type Middleware } from 'koa';
import type { Log, Service } from '../contract.ts';
import { contentType } from './prometheus.ts';
import { withinTime } from './retry.ts';
import { type StaticFiles, serveFiles } from './static-files.ts';
import type { WorkerMetrics } from './worker-metrics.ts';

/** Milliseconds in which a service must say that it is ready: fewer than the image's health check waits. */
export const readyTimeout = 500;

export interface HttpApp {
  /** The application; it does not listen, and emits 'error' for each failed request. */
  koa: Koa;
  /** From now on `/readyz` answers 503: the whole instance is about to end. */
  stopBeingReady(): void;
}

interface Options {
  metrics?: Pick<WorkerMetrics, 'middleware'>;
  /** The metrics of all workers, as Prometheus reads them. */
  readMetrics?: (() => Promise<string>) | undefined;
  dashboard?: Router | undefined;
  /** Where nginx is not in front. */
  files?: StaticFiles | undefined;
  /** Whether the request came in by the private way, on which alone `/readyz` and `/metrics` are answered. */
  isPrivate?: ((request: IncomingMessage) => boolean) | undefined;
  /** Whether the request comes from a proxy that may say who the client is and which request it is. */
  isTrustedProxy?: (request: IncomingMessage) => boolean;
}

/** Your routes, with what every request needs in front of them: an id, two probes, and refusal of what is malformed. */
export function createHttpApp(
  service: Service,
  {
    metrics,
    readMetrics,
    dashboard,
    files,
    isPrivate = () => true,
    isTrustedProxy = () => false,
  }: Options = {},
): HttpApp {
  const koa = new Koa({ proxy: true, maxIpsCount: 1 }); // the last address is what the proxy saw itself
  // All methods are known, so a wrong one is answered 405 and never 501.
  const router = new Router({ methods: METHODS, strict: true, sensitive: true });
  let stopping = false;
  const stopped = Object.assign(new Error('stopping'), { status: 503, expose: true }); // one, since each is logged once
  const isReady = shareReady(service);
  const privately: Middleware = (ctx, next) => (isPrivate(ctx.req) ? next() : ctx.throw(404));

  // Alive: this process answers. It asks nothing else: a restart does not bring back what the service depends on.
  router.get('/livez', (ctx) => {
    ctx.set('Cache-Control', 'no-store'); // a cache would go on saying so
    ctx.body = 'alive\n';
  });
  // Ready: a request would be served now.
  router.get('/readyz', privately, async (ctx) => {
    ctx.set('Cache-Control', 'no-store');
    if (stopping) throw stopped;
    await isReady();
    ctx.body = 'ready\n';
  });
  if (readMetrics) router.get('/metrics', privately, sendMetrics(readMetrics));
  if (dashboard) router.use(dashboard.routes());
  router.use(service.router.routes());

  if (metrics) koa.use(metrics.middleware);
  koa.use(refuseMalformed);
  koa.use(identifyRequest(isTrustedProxy));
  if (files) koa.use(serveFiles(files));
  koa.use(router.routes());
  koa.use(router.allowedMethods());
  return {
    koa,
    stopBeingReady() {
      stopping = true;
    },
  };
}

/** The metrics for Prometheus. */
function sendMetrics(readMetrics: () => Promise<string>): Middleware {
  return async (ctx) => {
    ctx.body = await readMetrics().catch((cause) =>
      ctx.throw(503, 'no metrics now', { cause, expose: true }),
    );
    ctx.type = contentType;
  };
}

/** Asks the service once for all probes that wait, so that a flood of them costs it nothing. */
function shareReady(service: Service): () => Promise<void> {
  let asking: Promise<void> | undefined;
  let failure: Error | undefined; // the same one until the service is ready again, since each is logged once
  async function ask(): Promise<void> {
    try {
      await withinTime(service.ready(), readyTimeout, () => new Error(`no answer within ${readyTimeout} ms`));
      failure = undefined;
    } catch (cause) {
      failure ??= Object.assign(new Error('not ready', { cause }), { status: 503, expose: true });
      throw failure;
    } finally {
      asking = undefined;
    }
  }
  return () => {
    asking ??= ask();
    return asking;
  };
}

// Node.js passes both on, and may notice only when it reads the body. nginx refuses both, but need not be in front.
const refuseMalformed: Middleware = (ctx, next) => {
  if (!hasPath(ctx)) ctx.throw(400, 'malformed URL');
  if (!/^(chunked)?$/i.test(ctx.get('Transfer-Encoding'))) ctx.throw(400, 'unknown Transfer-Encoding');
  return next();
};

function hasPath(ctx: Context): boolean {
  try {
    return ctx.path !== null; // an absolute URL is parsed here, and `GET http://[::1 HTTP/1.1` cannot be
  } catch {
    return false;
  }
}

/** Headers that only a trusted proxy may set. Koa reads ip, host and protocol from the first three. */
const proxyHeaders = ['x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'x-request-id'];

/**
 * nginx gives each request an id, and the same id to each of its tries. Other proxies give a UUID, whose digits are the
 * id here. A client could make up an id that another request has, so that one of them would have no effect.
 */
function identifyRequest(isTrustedProxy: (request: IncomingMessage) => boolean): Middleware {
  return (ctx, next) => {
    if (!isTrustedProxy(ctx.req)) for (const name of proxyHeaders) delete ctx.req.headers[name];
    const given = ctx.get('X-Request-ID').replaceAll('-', '').toLowerCase();
    // Node has UUIDs in stock: drawing bytes for each request costs several microseconds.
    ctx.state.requestId = /^[0-9a-f]{32}$/.test(given) ? given : randomUUID().replaceAll('-', '');
    return next();
  };
}

/** One line for each request that the service failed to serve. Mistakes of clients are in nginx' access log only. */
export function logFailures(koa: Koa, log: Log): void {
  const logged = new WeakSet<Error>(); // Koa reports a stream that fails while it is sent twice
  koa.on('error', (error, ctx?: Context) => {
    if (error.status < 500 || isOfConnection(error) || logged.has(error)) return;
    logged.add(error);
    log.error(
      { err: error, request_id: ctx?.state.requestId, method: ctx?.method, url: ctx?.url },
      'request failed',
    );
  });
}

/** The client went away during the answer, or sent what is not HTTP after its request: there is no client to answer. */
function isOfConnection(error: { code?: string; headerSent?: boolean }): boolean {
  return (
    error.headerSent === true &&
    /^(ECONNRESET|EPIPE|ERR_STREAM_PREMATURE_CLOSE|HPE_.*)$/.test(error.code ?? '')
  );
}
