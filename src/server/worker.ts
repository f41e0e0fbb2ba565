import { hostname } from 'node:os';
import { type Channel, openService } from '../app/service.ts';
import type { Config } from './config.ts';
import { createHttpApp, logFailures } from './http-app.ts';
import { createHttpServer } from './http-server.ts';
import type { Log } from './log.ts';
import type { FromWorker } from './messages.ts';
import { createMetrics } from './metrics.ts';
import { batch, deduplicationWindow, retry } from './retry.ts';

/** `instance`: all workers stop. `worker`: only this one does, and its successor listens already. */
export type StopScope = 'instance' | 'worker';
export type Stop = (scope: StopScope) => Promise<void>;

/** Milliseconds between two heartbeats, at most: four or more come within each WORKER_TIMEOUT. */
export const maxHeartbeatInterval = 1_000;

/**
 * Starts one worker: opens the service, makes the application, listens.
 *
 * @returns its stop: answers every request that has begun, then closes everything in reverse order.
 * @throws if the service cannot be opened or the socket cannot be listened on.
 */
export async function startWorker(config: Config, log: Log, primary: Channel): Promise<Stop> {
  const send = (message: FromWorker) => primary.send?.(message, () => {}); // main.ts notices a dead primary
  const metrics = createMetrics();
  const service = await openService({ config, log, primary, metrics, retry, batch, deduplicationWindow });

  const { koa, stopBeingReady } = createHttpApp(service, metrics);
  koa.proxy = 'path' in config.listen; // only nginx reaches a unix socket, so its X-Forwarded headers are true
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

/** Returns what is to be called for each request. Calls `done` once, after maxRequests and a random part of the jitter. */
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
