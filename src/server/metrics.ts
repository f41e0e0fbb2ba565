/**
 * What one worker measures. Its totals ride on each heartbeat to the primary, which adds up those of all workers
 * (prometheus.ts): what was sent survives the worker, and nobody has to ask a worker that hangs.
 */
import { performance } from 'node:perf_hooks';
import type { Context, Middleware } from 'koa';
import type { Durations, Metrics, WorkerEvent } from '../app/service.ts';

/** Seconds: OpenTelemetry's bounds for HTTP servers, and four below them, where most answers of a local service lie. */
export const bounds = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];

/** Methods that are counted under their own names; a client can make up any number of others. */
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** How many events are remembered. */
const maxEvents = 50;

/** The totals of one worker, as they are sent to the primary. They only grow, but for `memory` and `utilization`. */
export interface Snapshot {
  /** By name. */
  durations: Record<string, Durations[]>;
  /** Bytes. */
  memory: number;
  /** The share of time in which the event loop was busy, from 0 to 1. */
  utilization: number;
}

export interface WorkerMetrics extends Metrics {
  /** Times every request but those whose handler writes the answer itself, such as event streams. */
  middleware: Middleware;
  snapshot(): Snapshot;
  /** To be called when the primary tells of an event. */
  addEvents(news: WorkerEvent[]): void;
}

export function createMetrics(): WorkerMetrics {
  const durations = new Map<string, Map<string, Durations>>();
  const events: WorkerEvent[] = [];
  let measured = performance.eventLoopUtilization();

  const histogram: Histogram = (name, key, labels) => {
    const series = durations.get(name) ?? new Map<string, Durations>();
    durations.set(name, series);
    const found = series.get(key) ?? { labels: labels(), counts: emptyCounts(), sum: 0 };
    series.set(key, found);
    return found;
  };

  return {
    bounds,
    observe: (name, seconds) =>
      add(
        histogram(name, '', () => ({})),
        seconds,
      ),
    read: (name) => [...(durations.get(name)?.values() ?? [])],
    events: () => events,
    addEvents(news) {
      events.push(...news);
      events.splice(0, events.length - maxEvents);
    },
    snapshot() {
      const before = measured;
      measured = performance.eventLoopUtilization();
      return {
        durations: Object.fromEntries([...durations].map(([name, series]) => [name, [...series.values()]])),
        memory: process.memoryUsage.rss(),
        utilization: performance.eventLoopUtilization(measured, before).utilization,
      };
    },
    middleware: measureRequests(histogram),
  };
}

/** The histogram of a name for one set of labels, which `key` tells apart. */
type Histogram = (name: string, key: string, labels: () => Record<string, string>) => Durations;

/** Measures each request until its answer is made; not those that answer as long as the client likes. */
function measureRequests(histogram: Histogram): Middleware {
  function observe(ctx: Context, status: number, seconds: number): void {
    const method = methods.has(ctx.method) ? ctx.method : '_OTHER';
    const route = String(ctx._matchedRoute ?? '');
    const series = histogram('http_server_request', `${method} ${status} ${route}`, () => ({
      http_request_method: method,
      http_response_status_code: String(status),
      http_route: route,
    }));
    add(series, seconds);
  }
  return async (ctx, next) => {
    const begin = performance.now();
    let status = 500;
    try {
      await next();
      status = ctx.status;
    } catch (error) {
      status = (error as { status?: number }).status ?? 500;
      throw error;
    } finally {
      if (ctx.respond !== false) observe(ctx, status, (performance.now() - begin) / 1000);
    }
  };
}

export const emptyCounts = (): number[] => Array(bounds.length + 1).fill(0);

function add(series: Durations, seconds: number): void {
  let bucket = 0;
  while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket += 1;
  (series.counts[bucket] as number) += 1;
  series.sum += seconds;
}
