import type { IncomingMessage } from 'node:http';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type Channel, openService } from '../app/service.ts';
import type { Config } from './config.ts';
import { createHttpApp, logFailures } from './http-app.ts';
import { createHttpServer } from './http-server.ts';
import type { Log } from './log.ts';
import type { FromPrimary, FromWorker } from './messages.ts';
import { WorkerMetrics } from './metrics.ts';
import { batch, deduplicationWindow, retry, withinTime } from './retry.ts';

/** `instance`: all workers stop. `worker`: only this one does, and its successor listens already. */
export type StopScope = 'instance' | 'worker';
export type Stop = (scope: StopScope) => Promise<void>;

/** Milliseconds between two heartbeats, at most: four or more come within each WORKER_TIMEOUT. */
export const maxHeartbeatInterval = 1_000;

/** Milliseconds in which the primary must tell the numbers of all workers. */
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
  const service = await openService({ config, log, primary, metrics, retry, batch, deduplicationWindow });

  const { koa, stopBeingReady } = createHttpApp(service, {
    metrics,
    askMetrics: createAsk(primary, send),
    files: 'port' in config.listen ? files : undefined,
    believes: chooseProxies(config),
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

  const heartbeat = setInterval(
    () => send({ type: 'heartbeat', metrics: metrics.snapshot() }),
    Math.min(maxHeartbeatInterval, config.workerTimeout / 4 || maxHeartbeatInterval),
  );

  return async function stop(scope) {
    if (scope === 'instance') stopBeingReady();
    service.drain();
    await server.close();
    clearInterval(heartbeat);
    await service.close();
    send({ type: 'heartbeat', metrics: metrics.snapshot() }); // its last numbers
  };
}

/** Only nginx reaches a unix socket. At a port, a proxy is believed if its address is named. */
function chooseProxies({ listen, trustedProxies }: Pick<Config, 'listen' | 'trustedProxies'>) {
  return ({ socket: { remoteAddress = '', remoteFamily } }: IncomingMessage): boolean =>
    'path' in listen ||
    trustedProxies?.check(remoteAddress, remoteFamily === 'IPv6' ? 'ipv6' : 'ipv4') === true;
}

/** Returns what asks the primary for the numbers of all workers. It rejects if there is no answer in time. */
function createAsk(primary: Channel, send: (message: FromWorker) => void): () => Promise<string> {
  const calls = new Map<number, (text: string) => void>();
  let last = 0;
  primary.on('message', (message: FromPrimary) => {
    if (message.type === 'metrics') calls.get(message.call)?.(message.text);
  });
  return async () => {
    last += 1;
    const call = last;
    const answer = new Promise<string>((resolve) => calls.set(call, resolve));
    send({ type: 'metrics', call });
    try {
      return await withinTime(answer, metricsTimeout, () => new Error('the primary does not answer'));
    } finally {
      calls.delete(call);
    }
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
