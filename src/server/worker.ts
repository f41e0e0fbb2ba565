import { hostname } from 'node:os';
import { type Channel, openService } from '../app/service.ts';
import type { Config } from './config.ts';
import { createHttpApp, logFailures } from './http-app.ts';
import { createHttpServer } from './http-server.ts';
import type { Log } from './log.ts';
import type { FromWorker } from './messages.ts';
import { batch, deduplicationWindow, retry } from './retry.ts';

/** `instance`: every worker stops. `worker`: this one alone, whose successor listens already. */
export type StopScope = 'instance' | 'worker';
export type Stop = (scope: StopScope) => Promise<void>;

/** Milliseconds between two heartbeats; four come within each WORKER_TIMEOUT. */
const maxHeartbeatInterval = 1_000;

/**
 * Starts one worker: service, application, server. Resolves once it listens.
 *
 * @returns its stop: what has begun is answered, then everything is closed in reverse order.
 * @throws if the service cannot be opened, or the socket not be listened on.
 */
export async function startWorker(config: Config, log: Log, primary: Channel): Promise<Stop> {
  const send = (message: FromWorker) => primary.send?.(message, () => {}); // a dead primary is noticed elsewhere
  const service = await openService({ config, log, primary, retry, batch, deduplicationWindow });

  const { koa, stopBeingReady } = createHttpApp(service);
  koa.proxy = 'path' in config.listen; // only nginx reaches a unix socket, so what it forwards is true
  logFailures(koa, log);

  const server = createHttpServer(koa.callback(), {
    // Read by deploy/healthcheck.cjs, which compares the host with its container's, and by nginx' access log.
    workerName: `${hostname()}:${process.pid}`,
    onRequest: countDown(config, () => send({ type: 'recycle' })),
  });
  await server.listen();
  send({ type: 'listening' });

  const heartbeat = setInterval(
    () => send({ type: 'heartbeat' }),
    Math.min(maxHeartbeatInterval, config.workerTimeout / 4 || maxHeartbeatInterval),
  );

  return async function stop(scope) {
    if (scope === 'instance') stopBeingReady();
    service.drain();
    await server.close();
    clearInterval(heartbeat);
    await service.close();
  };
}

/** To be called for each request; calls `done` once, after maxRequests and a random part of the jitter. */
function countDown(
  { maxRequests, maxRequestsJitter }: Pick<Config, 'maxRequests' | 'maxRequestsJitter'>,
  done: () => void,
): () => void {
  if (maxRequests === 0) return () => {};
  let left = maxRequests + Math.floor(Math.random() * (maxRequestsJitter + 1));
  return () => {
    left -= 1;
    if (left === 0) done();
  };
}
