/** The forked app, as `npm start` runs it. */
import { join } from 'node:path';
import { required, startBacking } from './judgement.ts';
import { atEnd, childrenOf, killIfRunning, type Running, root, startProcess } from './processes.ts';
import { type Address, freePort } from './requests.ts';
import { waitFor } from './wait.ts';

/** The lines of JSON in an output. */
export function readLog(output: string): LogLine[] {
  return output
    .split('\n')
    .slice(0, -1)
    .filter((line) => line.startsWith('{"level"'))
    .map((line) => JSON.parse(line));
}

export interface LogLine {
  level: string;
  time: string;
  process: string;
  pid: number;
  msg: string;
  [key: string]: unknown;
}

export interface App extends Running {
  /** For requests and loads. */
  readonly address: Address;
  /** Every line of JSON that it has logged so far. */
  log(): LogLine[];
  /** Waits for the `nth` line (from 1) whose message matches. */
  waitForLog(message: RegExp, options?: { nth?: number; limit?: number }): Promise<LogLine>;
  /** The process ids of the workers there are, the oldest first. */
  workers(): number[];
}

export interface AppOptions {
  /** Settings of the app; LISTEN is a free port by default. */
  env?: Record<string, string>;
  /** With what the service needs beside it, so that what the load asks is answered 200. */
  backed?: boolean;
  /** A process group of its own, for signals to the whole group as a terminal sends them. */
  group?: boolean;
  /** The compiled entry; by default dist/main.js. */
  entry?: string;
  /** More arguments to Node. */
  nodeArguments?: string[];
}

/** The forked app as `npm start` runs it; resolves when all its workers listen. */
export async function startApp(options: AppOptions = {}): Promise<App> {
  const app = await spawnApp(options);
  const failed = app.exited.then(({ code, signal }) => {
    throw new Error(`the app ended (${signal ?? code}) before it served:\n${app.output()}`);
  });
  failed.catch(() => {}); // it may end later, as it should
  await Promise.race([app.waitForLog(/^serving /), failed]);
  return app;
}

/** The same, without waiting. */
export async function spawnApp(options: AppOptions = {}): Promise<App> {
  const listen = options.env?.LISTEN || String(await freePort());
  const backing = options.backed ? await startBacking() : {};
  const primary = startProcess(
    process.execPath,
    ['--enable-source-maps', ...(options.nodeArguments ?? []), options.entry ?? join(root, 'dist/main.js')],
    {
      // Only what is given: settings of the developer's own shell have no part in a test.
      env: {
        PATH: process.env.PATH,
        ...required,
        ...backing,
        ...options.env,
        LISTEN: listen,
      },
      group: options.group ?? false,
    },
  );
  const seen = new Set<number>(); // outlives the primary's list of children: a killed primary has none
  const workers = () => {
    const pids = childrenOf(primary.pid).sort((a, b) => a - b);
    for (const pid of pids) seen.add(pid);
    return pids;
  };
  atEnd(async () => {
    workers();
    primary.kill('SIGKILL');
    for (const pid of seen) killIfRunning(pid, 'SIGKILL');
    await primary.exited;
  });

  const log = () => readLog(primary.output());
  return {
    ...primary,
    address: listen.includes('/') ? { socketPath: listen } : addressOf(listen),
    log,
    workers,
    async waitForLog(message, { nth = 1, limit = 60_000 } = {}) {
      try {
        return await waitFor(
          () => log().filter(({ msg }) => message.test(msg))[nth - 1],
          `${message}`,
          limit,
        );
      } catch (error) {
        throw new Error(`${(error as Error).message}; the log:\n${primary.output()}`);
      }
    },
  };
}

function addressOf(listen: string): Address {
  const [, host, port] = /^(?:\[?([^\]]+?)\]?:)?(\d+)$/.exec(listen) ?? [];
  return host ? { host, port: Number(port) } : { port: Number(port) };
}
