import type { IncomingMessage } from 'node:http';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import { openService } from '../app/service.ts';
import { type Channel, createRequester, type Log, type Service } from '../contract.ts';
import { openDashboard } from '../dashboard/dashboard.ts';
import type { Config } from './config.ts';
import { createHttpApp, logFailures } from './http-app.ts';
import { createHttpServer } from './http-server.ts';
import type { FromPrimary, FromWorker } from './messages.ts';
import { batch, deduplicationWindow, retry, withinTime } from './retry.ts';
import { Streams } from './streams.ts';
import { WorkerMetrics } from './worker-metrics.ts';

/** `instance`: all workers stop. `worker`: only this one does, and its successor listens already. */
export type StopScope = 'instance' | 'worker';
export type Stop = (scope: StopScope) => Promise<void>;

/** Milliseconds between two heartbeats, at most: four or more come within each WORKER_TIMEOUT. */
export const maxHeartbeatInterval = 1_000;

/** Milliseconds in which the primary must send the metrics of all workers. */
const metricsTimeout = 1_000;

/** What nginx serves in front of the app. Only where the app is run from its repository is it there without nginx. */
const files = fileURLToPath(new URL('../../src/app/static', import.meta.url));

/**
 * Starts one worker: opens the service, makes the application, listens. Hands `onCrash` what is to be called when an
 * exception ends the process.
 *
 * @returns its stop: answers every request that has begun, then closes everything in reverse order.
 * @throws if the service cannot be opened or the socket cannot be listened on.
 */
export async function startWorker(
  config: Config,
  log: Log,
  primary: Channel,
  onCrash: (answer: () => void) => void,
): Promise<Stop> {
  const send = (message: FromWorker) => primary.send?.(message, () => {}); // main.ts notices a dead primary
  const metrics = new WorkerMetrics();
  primary.on('message', (message: FromPrimary) => {
    if (message.type === 'worker-events') metrics.addEvents(message.events);
  });
  const streams = new Streams();
  const context = { config, log, primary, metrics, retry, batch, deduplicationWindow, stream: streams.open };
  const service: Service = await openService(context); // a copy's own type may be an older one, without `plots`
  const dashboard = service.plots && openDashboard(service.plots, context);

  const atPort = 'port' in config.listen;
  const { koa, stopBeingReady } = createHttpApp(service, {
    metrics,
    readMetrics: atPort && config.metrics === 'closed' ? undefined : createMetricsReader(primary),
    dashboard: dashboard?.router,
    files: atPort ? { root: files, framed: config.reload !== undefined } : undefined,
    isPrivate: atPort ? undefined : (request) => request.headers['x-private'] === '1', // set by nginx' private port
    isTrustedProxy: createProxyCheck(config),
  });
  logFailures(koa, log);

  const server = createHttpServer(koa.callback(), {
    // Read by deploy/healthcheck.cjs, which compares the host with its container's, and by nginx' access log.
    workerName: `${hostname()}:${process.pid}`,
    onRequest: countDown(config, () => send({ type: 'recycle' })),
  });
  onCrash(server.answerCrash);
  await server.listen();
  send({ type: 'listening' });

  const beat = () => send({ type: 'heartbeat', metrics: metrics.snapshot() });
  const heartbeat = setInterval(beat, heartbeatInterval(config));

  return async function stop(scope) {
    if (scope === 'instance') stopBeingReady();
    service.drain?.();
    streams.drain();
    await server.close();
    clearInterval(heartbeat);
    await dashboard?.close();
    await service.close();
    beat(); // its last totals
  };
}

const heartbeatInterval = ({ workerTimeout }: Pick<Config, 'workerTimeout'>) =>
  Math.min(maxHeartbeatInterval, workerTimeout / 4 || maxHeartbeatInterval);

/** Only nginx reaches a unix socket. At a port, a proxy is trusted if TRUSTED_PROXIES has its address. */
function createProxyCheck({ listen, trustedProxies }: Pick<Config, 'listen' | 'trustedProxies'>) {
  return ({ socket: { remoteAddress = '', remoteFamily } }: IncomingMessage): boolean =>
    'path' in listen ||
    trustedProxies?.check(remoteAddress, remoteFamily === 'IPv6' ? 'ipv6' : 'ipv4') === true;
}

/** Reads the metrics of all workers from the primary. Rejects if there is no answer in time. */
function createMetricsReader(primary: Channel): () => Promise<string> {
  const read = createRequester<undefined, string>(primary, 'metrics');
  return () =>
    withinTime(read(undefined), metricsTimeout, () => new Error('the primary process does not answer'));
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
