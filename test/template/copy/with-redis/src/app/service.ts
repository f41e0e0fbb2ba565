/**
 * The door between your service and the server that runs it. KEEP the names and types that are exported here and
 * `openPrimary` and `appSettings` beside it; replace what is behind them.
 */
import type Router from '@koa/router';
import { openPolls } from './polls.ts';
import { createRoutes } from './routes.ts';

/** What the server runs: one for each worker. */
export interface Service {
  /** Answers requests. `/livez`, `/readyz`, unknown paths and wrong methods are the server's. */
  router: Router;
  /** Rejects if a request could not be served now: `GET /readyz` and the image's health check ask it. */
  ready(): Promise<void>;
  /** This worker is about to stop: end what would never end by itself, as streams of events. */
  drain(): void;
  /** Called after the last request was answered. */
  close(): Promise<void>;
}

/** What the server hands to the service. */
export interface Context {
  /** The values of `appSettings`. */
  config: { redisUrl: string; redisPasswordFile: string | undefined };
  log: Log;
  /** The channel to the primary process, where `openPrimary` answers. */
  primary: Channel;
  retry: Retry;
  batch: Batch;
  /** Milliseconds for which the same request may come again under the same id: from nginx, `retry` and `batch`. */
  deduplicationWindow: number;
}

/** Called once in the primary, before the first fork. What it returns is called with the channel of each new worker. */
export type OpenPrimary = (
  context: Pick<Context, 'config' | 'log' | 'deduplicationWindow'>,
) => (worker: Channel) => void;

/**
 * Calls `attempt` again, with growing pauses, until it succeeds or 2.5 s are over. It rejects with the answer 503 and
 * `Retry-After`. After `deadline`, as Date.now() counts, an attempt must change nothing: its client has that answer.
 */
export type Retry = <Result>(attempt: (deadline: number) => Promise<Result>) => Promise<Result>;

/**
 * The same for requests that can share one command: items that wait together are committed together, one batch at a
 * time, each with its own result. An id that waits already shares the result of the one that waits.
 */
export type Batch = <Item, Result>(
  commit: (items: Item[], deadline: number) => Promise<Result[]>,
) => (id: string, item: Item) => Promise<Result>;

type Write = { (message: string): void; (fields: object, message: string): void };

/** Writes one line; an error is logged in full as `{ err: error }`. */
export interface Log {
  debug: Write;
  info: Write;
  warn: Write;
  error: Write;
  fatal: Write;
}

/** One end of the IPC channel between the primary and a worker. The server's own messages share it: see `type`. */
export interface Channel {
  // biome-ignore lint/suspicious/noExplicitAny: what arrives is told apart by its type
  on(event: 'message', listener: (message: any) => void): unknown;
  send?(message: object, done?: (error: Error | null) => void): boolean;
  connected?: boolean;
}

declare module 'koa' {
  interface DefaultState {
    /** 32 hexadecimal digits: the same for all tries of one request, so that it can be counted once. */
    requestId: string;
  }
}

export async function openService(context: Context): Promise<Service> {
  const polls = await openPolls(context);
  const { router, endStreams } = createRoutes(polls);
  return { router, ready: polls.ready, drain: endStreams, close: polls.close };
}
