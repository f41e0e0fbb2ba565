/**
 * The door between your service and the server that runs it. KEEP what is exported here, `openPrimary` and
 * `appSettings`; replace what is behind them.
 */
import type Router from '@koa/router';
import { createCounter } from './counter.ts';
import { openDashboard } from './dashboard/dashboard.ts'; // dashboard
import { createRoutes } from './routes.ts';
import type { appSettings } from './settings.ts';
import type { Store } from './store.ts';

/** What the server runs: one for each worker. */
export interface Service {
  /** Answers requests. The server answers `/livez`, `/readyz`, unknown paths and wrong methods. */
  router: Router;
  /** Rejects if a request could not be served now: `GET /readyz` and the image's health check ask it. */
  ready(): Promise<void>;
  /** This worker is about to stop: end what would never end by itself, such as event streams. */
  drain(): void;
  /** Called after the last request was answered. */
  close(): Promise<void>;
}

type Table = typeof appSettings;
type Absent<Setting> = Setting extends { default: string } ? never : undefined;

/** What the server hands to the service. */
export interface Context {
  /** The values of `appSettings`; those without a default may be undefined. */
  config: { [Key in keyof Table]: ReturnType<Table[Key]['parse']> | Absent<Table[Key]> };
  log: Log;
  metrics: Metrics;
  /** The channel to the primary process, where `openPrimary` answers. */
  primary: Channel;
  retry: Retry;
  batch: Batch;
  /** Milliseconds for which a request may come again under the same id. */
  deduplicationWindow: number;
}

/** Called once in the primary, before the first fork. What it returns is called with each new worker's channel. */
export type OpenPrimary = (
  context: Pick<Context, 'config' | 'log' | 'deduplicationWindow'>,
) => (worker: Channel) => void;

/**
 * Calls `attempt` again, with growing pauses, until it succeeds. After 2.5 s the request is answered 503 with
 * `Retry-After`. An attempt must change nothing after `deadline` (Date.now()): its client may have that answer already.
 */
export type Retry = <Result>(attempt: (deadline: number) => Promise<Result>) => Promise<Result>;

/**
 * The same for requests that can share one command: items that wait together are committed together, one batch at a
 * time, for 2.5 s at most. A call whose id waits already shares its result.
 */
export type Batch = <Item, Result>(
  commit: (items: Item[], deadline: number) => Promise<Result[]>,
) => (id: string, item: Item) => Promise<Result>;

/** What the server measures, as `/metrics` tells it. */
export interface Metrics {
  /** Adds one duration to a histogram of yours: `observe('db_query', 0.002)` is in `db_query_duration_seconds`. */
  observe(name: string, seconds: number): void;
  /** What this worker has measured under a name; `http_server_request` is the server's own. */
  read(name: string): Durations[];
  /** The upper ends of the buckets, in seconds. One more bucket has no end. */
  readonly bounds: number[];
  /** What happened to the workers lately, the oldest first. */
  events(): WorkerEvent[];
}

/** A histogram. It only grows. */
export interface Durations {
  /** For instance `http_request_method`, `http_response_status_code`, `http_route`. */
  labels: Record<string, string>;
  /** How many durations fell into each bucket. */
  counts: number[];
  /** Seconds. */
  sum: number;
}

export interface WorkerEvent {
  /** Milliseconds since the epoch. */
  at: number;
  type: 'started' | 'reloaded' | 'recycled' | 'died';
  /** Its process id; 0: all workers. */
  worker: number;
}

type Write = { (message: string): void; (fields: object, message: string): void };

/** Writes one line; `{ err: error }` logs an error in full. */
export interface Log {
  debug: Write;
  info: Write;
  warn: Write;
  error: Write;
  fatal: Write;
}

/** One end of the IPC channel between primary and worker. The server's messages share it, told apart by `type`. */
export interface Channel {
  // biome-ignore lint/suspicious/noExplicitAny: of any type
  on(event: 'message', listener: (message: any) => void): unknown;
  send?(message: object, done?: (error: Error | null) => void): boolean;
  connected?: boolean;
}

declare module 'koa' {
  interface DefaultState {
    /** 32 hexadecimal digits: the same for all tries of one request, so that it can take effect once. */
    requestId: string;
  }
}

/**
 * Called once in each worker, before it listens.
 *
 * @throws if the worker can never serve. While Redis is only away for now, `ready` rejects instead.
 */
export async function openService(context: Context): Promise<Service> {
  const store = await openStore(context);
  const counter = createCounter(store, context);
  const router = createRoutes(counter);
  const dashboard = await openDashboard(context, store); // dashboard
  router.use(dashboard.router.routes()); // dashboard
  return {
    router,
    ready: store.ready,
    drain() {
      // End your streams here.
      dashboard.drain(); // dashboard
    },
    async close() {
      await dashboard.close(); // dashboard
      await store.close();
    },
  };
}

/** Redis' client is half of a worker's code: it is loaded only where it is used. */
async function openStore({ config, log, primary, deduplicationWindow }: Context): Promise<Store> {
  if (config.redisUrl === undefined) {
    const { openMemoryStore } = await import('./memory-store.ts');
    return openMemoryStore(primary);
  }
  const { openRedisStore } = await import('./redis-store.ts');
  const { redisPassword: password, redisPasswordFile: passwordFile } = config;
  return openRedisStore(config.redisUrl, { password, passwordFile, log, deduplicationWindow });
}
