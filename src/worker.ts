import { createServer, type ServerResponse } from 'node:http';
import { Server, type Socket } from 'node:net';
import { hostname } from 'node:os';
import { createApp } from './app.ts';
import type { Config } from './config.ts';
import { createCounter } from './counter.ts';
import type { Log } from './log.ts';
import { openMemoryStore } from './memory.ts';
import type { FromWorker } from './messages.ts';
import { inherited } from './socket.ts';
import type { Store } from './store.ts';

export type Stop = (whole: 'worker' | 'service') => Promise<void>;

// Milliseconds. The first is longer than any proxy in front keeps an idle connection, so that the proxy is the
// one who closes it and no request meets a closing socket (nginx.conf; cloud load balancers: 60 s).
const keepAliveTimeout = 65_000;
const drainIdle = 1_000; // after nginx has closed its idle connections
const requestTimeout = 15_000; // less than a drain may take: half a request does not hold a stopping worker up
const heartbeat = 1_000; // at least, and four times in each worker time-out

/** The client went away in the middle, or what followed its request's head is not HTTP: nobody is there to answer. */
function isOfConnection(error: { code?: string; headerSent?: boolean }): boolean {
  return error.headerSent === true && /^(ECONNRESET|EPIPE|HPE_.*)$/.test(error.code ?? '');
}

/** The client of Redis is half of all that a worker loads: only where it is used. */
async function openRedis(url: string, log: Log): Promise<Store> {
  const { openRedisStore } = await import('./redis.ts');
  return openRedisStore(url, log);
}

/**
 * Starts one worker: counter, application, server. Resolves once it listens.
 *
 * @returns its stop: what has begun is answered, then everything is closed in reverse order.
 * @throws if it cannot listen.
 */
export async function startWorker(
  config: Config,
  log: Log,
  primary: Pick<NodeJS.Process, 'on' | 'send' | 'connected'>,
): Promise<Stop> {
  const tell = (message: FromWorker) => primary.send?.(message, () => {}); // a dead primary is noticed elsewhere
  const counter = createCounter(
    config.redisUrl ? await openRedis(config.redisUrl, log) : openMemoryStore(primary),
  );

  const app = createApp(counter);
  app.proxy = 'path' in config.listen; // only nginx reaches a unix socket, so what it forwards is true
  app.on('error', (error, ctx) => {
    if (error.status < 500 || isOfConnection(error)) return; // the client's doing: the access log has it
    log.error(
      { err: error, request_id: ctx?.state.requestId, method: ctx?.method, url: ctx?.url },
      'request failed',
    );
  });
  const handle = app.callback();

  const name = `${hostname()}:${process.pid}`;
  const unanswered = new Set<ServerResponse>();
  const sockets = new Set<Socket>();
  let draining = false;
  let requestsLeft =
    config.maxRequests && config.maxRequests + Math.floor(Math.random() * (config.maxRequestsJitter + 1));

  const server = createServer(
    { keepAliveTimeout, requestTimeout, connectionsCheckingInterval: 1_000 },
    (req, res) => {
      unanswered.add(res);
      res.once('close', () => unanswered.delete(res));
      res.shouldKeepAlive &&= !draining;
      res.setHeader('X-Worker', name);
      if (requestsLeft > 0) {
        requestsLeft -= 1;
        if (requestsLeft === 0) tell({ type: 'worn' });
      }
      handle(req, res);
    },
  );
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(inherited, resolve);
  });
  tell({ type: 'listening' });

  const pulse = setInterval(
    () => tell({ type: 'beat' }),
    Math.min(heartbeat, config.workerTimeout / 4 || heartbeat),
  );

  return async function stop(whole) {
    if (whole === 'service') app.context.draining = true;
    draining = true;
    // http.Server.close() would cut idle connections at once, while a request may be on its way on one of them.
    const closed = new Promise<void>((resolve) => Server.prototype.close.call(server, () => resolve()));
    for (const res of unanswered) res.shouldKeepAlive = false;
    const idle = setTimeout(() => {
      server.closeIdleConnections();
      // Opened in advance and never used, as browsers do: not idle to Node, which waits for a first request.
      for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
    }, drainIdle);
    await closed;
    clearTimeout(idle);
    clearInterval(pulse);
    await counter.close();
  };
}
