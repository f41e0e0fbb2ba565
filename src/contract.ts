/**
 * What the server and your service agree on, with plots.ts. Both import this file, and it imports neither: it comes with
 * upgrades, and your files stay as they are.
 */
import type Router from '@koa/router';
import type { Context as Request } from 'koa';
import type { Plots } from './plots.ts';

/**
 * Called once in each worker, before it listens. src/app/service.ts exports it as `openService`.
 *
 * @throws if the worker can never serve. While what it depends on is only away for now, `ready` rejects instead.
 */
export type OpenService<Config = unknown> = (context: Context<Config>) => Promise<Service>;

/** What the server runs: one for each worker. */
export interface Service {
  /** Answers requests. The server answers `/livez`, `/readyz`, unknown paths and wrong methods. */
  router: Router;
  /** What `/dashboard` shows. Without it there is no dashboard. */
  plots?: Plots;
  /** Rejects if a request could not be served now: `GET /readyz` and the image's health check ask it. */
  ready(): Promise<void>;
  /** This worker is about to stop: end what would never end by itself. The server ends the streams of `stream`. */
  drain?(): void;
  /** Called after the last request was answered. */
  close(): Promise<void>;
}

/** What the server hands to the service. */
export interface Context<Config = unknown> {
  /** The values of `appSettings`. */
  config: Config;
  log: Log;
  metrics: Metrics;
  /** The channel to the primary process, where `openPrimary` answers. */
  primary: Channel;
  retry: Retry;
  batch: Batch;
  /**
   * Answers a request with server-sent events, to which `send` adds. The stream ends after 10 to 15 s, and when the worker
   * stops: the browser opens it again by itself. Absent if there is none, and the status says so: a HEAD request, or more
   * than 1,000 viewers.
   */
  stream(ctx: Request): Viewer | undefined;
  /** Milliseconds for which a request may come again under the same id. */
  deduplicationWindow: number;
}

/** Whoever looks at a stream of events. */
export interface Viewer {
  /** Whether it has read what it was sent before. Otherwise skip it: the next frame will have what is new then. */
  ready(): boolean;
  /** A frame for several viewers is encoded once, if it is the same object. `data` becomes JSON. */
  send(frame: StreamFrame): void;
  /** Resolves when it is gone. */
  closed: Promise<void>;
}

export interface StreamFrame {
  event?: string;
  id?: string;
  data: unknown;
}

/**
 * Called once in the primary, before the first fork. What it returns is called with each new worker's channel.
 * src/app/primary.ts exports it as `openPrimary`.
 */
export type OpenPrimary<Config = unknown> = (
  context: Pick<Context<Config>, 'config' | 'log' | 'deduplicationWindow'>,
) => (worker: Channel) => void;

/** What an environment variable means. src/app/settings.ts exports a table of them as `appSettings`. */
export interface Setting<Value> {
  name: string;
  /** As it would be written in the environment; undefined: the value may be absent. */
  default: string | undefined;
  meaning: string;
  /**
   * The value may contain a password: no message shows it. It is also read from the file that NAME_FILE names, without
   * line ends at its end: each access to the value reads that file anew, and throws if it cannot.
   */
  secret?: boolean;
  /** @throws an error whose message says what would be right. */
  parse(text: string): Value;
}

/** The values of a table of settings, under the same keys. One without a default may be undefined. */
// biome-ignore lint/suspicious/noExplicitAny: any setting's type
export type Values<Table extends Record<string, Setting<any>>> = {
  [Key in keyof Table]: Table[Key] extends Setting<infer Value>
    ? Value | (Table[Key]['default'] extends string ? never : undefined)
    : never;
};

/**
 * Calls `attempt` again, with growing pauses, until it succeeds. After 2.5 s the request is answered 503 with
 * `Retry-After`. An attempt must change nothing after `deadline` (Date.now()): its client may have that answer already.
 */
export type Retry = <Result>(attempt: (deadline: number) => Promise<Result>) => Promise<Result>;

/**
 * The same for requests that can share one command: items that wait together are committed together, for 2.5 s at most.
 * A call whose id waits already shares its result. Up to `concurrency` commits are under way at once, by default one.
 */
export type Batch = <Item, Result>(
  commit: (items: Item[], deadline: number) => Promise<Result[]>,
  options?: { concurrency?: number },
) => (id: string, item: Item) => Promise<Result>;

/** What the server measures. `/metrics` shows the same. */
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

/** One end of the IPC channel between primary and worker. All messages share it, and differ in their `type`. */
export interface Channel {
  // biome-ignore lint/suspicious/noExplicitAny: of any type
  on(event: 'message', listener: (message: any) => void): unknown;
  send?(message: object, done?: (error: Error | null) => void): boolean;
  connected?: boolean;
}

/**
 * Asks the other end of a channel, where `answerRequests` answers what has the same `type`. Rejects if the question
 * cannot be sent or the answer is an error. There is no timeout: the caller sets its own.
 */
export function createRequester<Question, Answer>(
  channel: Channel,
  type: string,
): (question: Question) => Promise<Answer> {
  const calls = new Map<number, { resolve(answer: Answer): void; reject(error: Error): void }>();
  let last = 0;
  channel.on('message', (message) => {
    const call = message.type === `${type}-answer` ? calls.get(message.call) : undefined;
    if (!call) return;
    calls.delete(message.call);
    if ('error' in message) call.reject(new Error(message.error));
    else call.resolve(message.answer);
  });
  return (question) =>
    new Promise((resolve, reject) => {
      last += 1;
      const call = last;
      calls.set(call, { resolve, reject });
      channel.send?.({ type, call, question }, (error) => {
        if (!error) return;
        calls.delete(call);
        reject(error);
      });
    });
}

/** Answers what a `createRequester` of the same `type` asks at the other end. What throws there rejects here. */
export function answerRequests<Question, Answer>(
  channel: Channel,
  type: string,
  answer: (question: Question) => Answer | Promise<Answer>,
): void {
  channel.on('message', async (message) => {
    if (message.type !== type) return;
    const reply = { type: `${type}-answer`, call: message.call };
    // The other process may end meanwhile: then nothing waits for this answer.
    const send = (result: object) => channel.send?.({ ...reply, ...result }, () => {});
    try {
      send({ answer: await answer(message.question) });
    } catch (error) {
      send({ error: (error as Error).message });
    }
  });
}

declare module 'koa' {
  interface DefaultState {
    /** 32 hexadecimal digits: the same for all tries of one request, so that it can take effect once. */
    requestId: string;
  }
}
