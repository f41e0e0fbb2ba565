/**
 * What one worker measures. Each heartbeat carries its totals to the primary, which adds up those of all workers
 * (instance-metrics.ts). So what was sent survives the worker, and a worker that hangs holds up no answer.
 */
import { performance } from 'node:perf_hooks';
import type { Context, Middleware } from 'koa';
import type { Durations, Metrics, WorkerEvent } from '../contract.ts';

/** Seconds: OpenTelemetry's bounds for HTTP servers, and four below them, where most answers of a local service lie. */
export const bounds = [
  0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
];

/** Methods that are counted under their own names; a client can make up any number of others. */
const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** How many events are remembered. */
const maxRemembered = 50;

/** The totals of one worker, as they are sent to the primary. They only grow, but for `memory` and `utilization`. */
export interface Snapshot {
  /** By name. */
  durations: Record<string, Durations[]>;
  /** Bytes. */
  memory: number;
  /** The share of time in which the event loop was busy, from 0 to 1. */
  utilization: number;
}

/** The service sees of it what the type Metrics says. */
export class WorkerMetrics implements Metrics {
  readonly bounds = bounds;
  readonly #durations = new Map<string, Map<string, Durations>>(); // name → labels → histogram
  readonly #events: WorkerEvent[] = [];
  #measured = performance.eventLoopUtilization();

  observe = (name: string, seconds: number): void => {
    add(
      this.#histogram(name, '', () => ({})),
      seconds,
    );
  };

  read = (name: string): Durations[] => [...(this.#durations.get(name)?.values() ?? [])];

  events = (): WorkerEvent[] => this.#events;

  /** To be called when the primary reports events. */
  addEvents(news: WorkerEvent[]): void {
    this.#events.push(...news);
    this.#events.splice(0, this.#events.length - maxRemembered);
  }

  snapshot(): Snapshot {
    const before = this.#measured;
    this.#measured = performance.eventLoopUtilization();
    return {
      durations: Object.fromEntries([...this.#durations.keys()].map((name) => [name, this.read(name)])),
      memory: readMemory(),
      utilization: performance.eventLoopUtilization(this.#measured, before).utilization,
    };
  }

  /**
   * Times every request but those whose handler writes the answer itself, such as event streams. Every request passes
   * here: as an async function it would cost 5 µs more.
   */
  middleware: Middleware = (ctx, next) => {
    const begin = performance.now();
    const observe = (status: number) => {
      if (ctx.respond !== false) this.#observeRequest(ctx, status, (performance.now() - begin) / 1000);
    };
    return next().then(
      () => observe(ctx.status),
      (error) => {
        observe(error?.status ?? 500);
        throw error;
      },
    );
  };

  #observeRequest(ctx: Context, status: number, seconds: number): void {
    const method = methods.has(ctx.method) ? ctx.method : '_OTHER';
    const route = String(ctx._matchedRoute ?? '');
    const labels = () => ({
      http_request_method: method,
      http_response_status_code: String(status),
      http_route: route,
    });
    add(this.#histogram('http_server_request', `${method} ${status} ${route}`, labels), seconds);
  }

  #histogram(name: string, key: string, labels: () => Record<string, string>): Durations {
    const series = this.#durations.get(name) ?? new Map<string, Durations>();
    this.#durations.set(name, series);
    const found = series.get(key) ?? { labels: labels(), counts: emptyCounts(), sum: 0 };
    series.set(key, found);
    return found;
  }
}

let lastMemory = 0;

/** Bytes. It is read from a file of /proc, so without a free descriptor (EMFILE) it is the last one. */
export function readMemory(): number {
  try {
    lastMemory = process.memoryUsage.rss();
  } catch {
    // a metric must not end the process
  }
  return lastMemory;
}

export const emptyCounts = (): number[] => Array(bounds.length + 1).fill(0);

function add(series: Durations, seconds: number): void {
  let bucket = 0;
  while (bucket < bounds.length && seconds > (bounds[bucket] as number)) bucket += 1;
  (series.counts[bucket] as number) += 1;
  series.sum += seconds;
}
