/**
 * Real processes for tests and measurements: Redis, nginx and the forked app. Whatever is started here is ended
 * by stopAll(), which belongs into an afterEach.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { Agent, type IncomingHttpHeaders, request as send } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, parse } from 'node:path';
import { createClient } from 'redis';

/** Where npm runs its scripts: the root of the repository. */
const root = process.cwd();

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process under test, and what it has written so far. */
export interface Running {
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Standard output and standard error, in the order of their arrival. */
  output(): string;
  kill(signal: NodeJS.Signals): void;
}

type Ending = () => unknown;
const endings: Ending[] = [];

/** Ends everything that was started and removes its files, the latest first. */
export async function stopAll(): Promise<void> {
  for (let end = endings.pop(); end; end = endings.pop()) await end();
}

export const delay = (milliseconds: number) =>
  new Promise<void>((resume) => setTimeout(resume, milliseconds));

/**
 * Resolves to the first value of `condition` that is neither false nor undefined nor null. A condition that
 * throws is not yet met; its last error is the reason if it never is.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  what = 'the condition',
  limit = 60_000,
): Promise<Exclude<T, false | undefined | null>> {
  const end = performance.now() + limit;
  for (;;) {
    let cause: unknown;
    try {
      const value = await condition();
      if (value !== false && value !== undefined && value !== null) {
        return value as Exclude<T, false | undefined | null>;
      }
    } catch (error) {
      cause = error;
    }
    if (performance.now() > end) throw new Error(`waited ${limit} ms in vain for ${what}`, { cause });
    await delay(10);
  }
}

/** A new empty directory, removed by stopAll(). */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'counter-'));
  endings.push(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

/** A copy of these files of the repository that a test may change, with the packages that are installed. */
export function copyRepository(...paths: string[]): string {
  const directory = temporaryDirectory();
  for (const path of [...paths, 'package.json']) {
    cpSync(join(root, path), join(directory, path), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  return directory;
}

/** A free TCP port, below those that the system gives to outgoing connections (32768 and up). */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 22_000); // at random: test files run in parallel
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

function run(
  command: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; group?: boolean } = {},
): Running & { child: ChildProcess } {
  const child = spawn(command, args, {
    cwd: options.cwd ?? root,
    env: options.env ?? process.env,
    detached: options.group ?? false,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  exited.catch(() => {}); // whoever needs the process learns of it by the process id below
  if (child.pid === undefined) throw new Error(`${command} cannot be started`);
  return {
    child,
    pid: child.pid,
    exited,
    output: () => output,
    kill: (signal) => {
      child.kill(signal);
    },
  };
}

/** The ids of the processes whose parent is the given one. */
export function childrenOf(parent: number): number[] {
  const table = existsSync('/proc/self/stat')
    ? readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map((pid) => [Number(pid), Number(statOf(pid)?.[1])])
    : execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' })
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/\s+/).map(Number));
  return table.flatMap(([pid, ppid]) => (ppid === parent ? [pid as number] : []));
}

/** What follows the name in /proc/PID/stat: the state, the parent, … */
function statOf(pid: number | string): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined; // it has ended
  }
}

/** Whether there is such a process; one that has ended and only waits for its parent does not count. */
export function isRunning(pid: number): boolean {
  if (existsSync('/proc/self/stat')) return !['Z', 'X', undefined].includes(statOf(pid)?.[0]);
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What `ps` shows as the command of a process. */
export function titleOf(pid: number): string {
  if (!existsSync('/proc/self/stat')) {
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).trim();
  }
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
}

export function killIfRunning(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has ended
  }
}

// ---------------------------------------------------------------------------------------------------- requests

/** Where a server listens. */
export type Address = { port: number; host?: string } | { socketPath: string };

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  agent?: Agent;
  /** Milliseconds; a request that takes longer hangs, which is a failure. */
  timeout?: number;
}

/** One HTTP request; rejects if there is no complete answer. */
export function request(to: Address, path = '/', options: RequestOptions = {}): Promise<Answer> {
  const { body, timeout = 20_000, agent, ...rest } = options;
  const where =
    'port' in to ? { host: to.host ?? '127.0.0.1', port: to.port } : { socketPath: to.socketPath };
  return new Promise((resolve, reject) => {
    const outgoing = send({ ...where, ...rest, path, agent: agent ?? false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => {
        text += part;
      });
      response.on('end', () => {
        clearTimeout(expiry);
        resolve({ status: response.statusCode as number, headers: response.headers, body: text });
      });
      response.on('error', reject);
    });
    const expiry = setTimeout(
      () => outgoing.destroy(new Error(`no answer within ${timeout} ms: it hangs`)),
      timeout,
    );
    outgoing.on('error', (error) => {
      clearTimeout(expiry);
      reject(error);
    });
    outgoing.end(body);
  });
}

/** The number in an answer to GET /, as text or JSON. */
export function numberIn(body: string): number {
  const number = /\d+/.exec(body)?.[0];
  if (number === undefined) throw new Error(`no number in ${JSON.stringify(body)}`);
  return Number(number);
}

/** What became of the visits of a load. */
export interface Tally {
  /** The numbers that visits got, in the order of their arrival. */
  numbers: number[];
  /** How many answers had which status. */
  statuses: Record<number, number>;
  /** Requests without an answer. */
  errors: Error[];
  /** The longest time that a visit took, in milliseconds. */
  slowest: number;
}

export interface Load {
  readonly tally: Tally;
  /** Lets the visits in flight finish. */
  stop(): Promise<Tally>;
}

/**
 * Visits on so many connections, until it is stopped. The pause between an answer and the next visit, 10 ms by
 * default, leaves some of the machine to what is tested.
 */
export function startLoad(
  to: Address,
  connections: number,
  { keepAlive = true, pause = 10 }: { keepAlive?: boolean; pause?: number } = {},
): Load {
  const tally: Tally = { numbers: [], statuses: {}, errors: [], slowest: 0 };
  const agent = new Agent({ keepAlive, maxSockets: connections });
  let running = true;
  const visitors = Array.from({ length: connections }, async () => {
    while (running) {
      const begin = performance.now();
      try {
        const { status, body } = await request(to, '/', { agent });
        tally.statuses[status] = (tally.statuses[status] ?? 0) + 1;
        if (status === 200) tally.numbers.push(numberIn(body));
      } catch (error) {
        tally.errors.push(error as Error);
        await delay(10);
      }
      tally.slowest = Math.max(tally.slowest, performance.now() - begin);
      if (pause > 0) await delay(pause);
    }
  });
  const stop = async () => {
    running = false;
    await Promise.all(visitors);
    agent.destroy();
    return tally;
  };
  endings.push(stop);
  return { tally, stop };
}

// ------------------------------------------------------------------------------------------------------- Redis

export interface Redis {
  readonly port: number;
  readonly url: string;
  /** Sends one command on a connection of its own. */
  command(...args: string[]): Promise<unknown>;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing is answered. */
  freeze(): void;
  thaw(): void;
  /** Starts it again, after kill(), on the same port and data. */
  start(): Promise<void>;
}

/** A redis-server of its own. With `appendOnly` a killed one comes back with its data. */
export async function startRedis(
  options: { appendOnly?: boolean; port?: number; args?: string[] } = {},
): Promise<Redis> {
  const redis = await prepareRedis(options);
  await redis.start();
  return redis;
}

/** The same, not yet started: for what finds no Redis at its own start. */
export async function prepareRedis(
  options: { appendOnly?: boolean; port?: number; args?: string[] } = {},
): Promise<Redis> {
  const directory = temporaryDirectory();
  const port = options.port ?? (await freePort());
  const url = `redis://127.0.0.1:${port}`;
  let server: Running | undefined;

  async function command(...args: string[]): Promise<unknown> {
    const client = createClient({ url, socket: { reconnectStrategy: false } });
    client.on('error', () => {}); // the call below rejects with it
    try {
      await client.connect();
      return await client.sendCommand(args);
    } finally {
      client.destroy();
    }
  }
  async function kill(): Promise<void> {
    server?.kill('SIGKILL');
    await server?.exited;
    server = undefined;
  }
  endings.push(kill);

  return {
    port,
    url,
    command,
    kill,
    freeze: () => server?.kill('SIGSTOP'),
    thaw: () => server?.kill('SIGCONT'),
    async start() {
      if (server) throw new Error('Redis runs already');
      const appendOnly = options.appendOnly ? 'yes' : 'no';
      server = run('redis-server', [
        ...['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--daemonize', 'no'],
        ...['--save', '', '--appendonly', appendOnly, '--appendfsync', 'always', ...(options.args ?? [])],
      ]);
      const { output } = server;
      await waitFor(() => /Ready to accept connections/.test(output()), 'Redis to accept connections').catch(
        (error) => {
          throw new Error(`redis-server did not start:\n${output()}`, { cause: error });
        },
      );
    },
  };
}

// ------------------------------------------------------------------------------------------------------- nginx

export interface Nginx extends Running {
  readonly port: number;
  /** The file with the configuration that was substituted. */
  readonly configuration: string;
  /** The lines of the access log. */
  accessLog(): Record<string, string>[];
}

/**
 * deploy/nginx.conf as it is, but for where it listens, where the app is, and where it writes.
 *
 * @throws if the file no longer says what is replaced here.
 */
export function writeNginxConfiguration(to: {
  port: number;
  socketPath: string;
  directory: string;
  /** src/static by default. */
  files?: string;
}): string {
  let text = readFileSync(join(root, 'deploy/nginx.conf'), 'utf8');
  function replace(what: string, times: number, by: string): void {
    const parts = text.split(what);
    if (parts.length !== times + 1) {
      throw new Error(`deploy/nginx.conf has ${what} ${parts.length - 1} times, expected ${times}`);
    }
    text = parts.join(by);
  }
  replace('listen 8080 ', 1, `listen ${to.port} `);
  const { dir, base } = parse(to.socketPath);
  replace('unix:/run/app/app.sock', 2, `unix:${to.socketPath}`);
  replace('unix:/run/app/./app.sock', 1, `unix:${dir}/./${base}`);
  replace('unix:/run/app/././app.sock', 1, `unix:${dir}/././${base}`);
  replace('root /srv/static;', 1, `root ${to.files ?? join(root, 'src/static')};`);
  // Node's pipes are sockets, which cannot be opened by their names in /dev.
  replace('access_log /dev/stdout ', 1, `access_log ${to.directory}/access.log `);
  replace(' /tmp/nginx', 6, ` ${to.directory}/nginx`);
  const file = join(to.directory, 'nginx.conf');
  writeFileSync(file, text);
  return file;
}

/** nginx with deploy/nginx.conf in front of the app on the given socket. */
export async function startNginx(
  socketPath: string,
  options: { port?: number; files?: string } = {},
): Promise<Nginx> {
  const directory = temporaryDirectory();
  const port = options.port ?? (await freePort());
  const configuration = writeNginxConfiguration({ ...options, port, socketPath, directory });
  const nginx = run('nginx', nginxArguments(configuration, directory));
  endings.push(async () => {
    nginx.kill('SIGTERM');
    await nginx.exited;
  });
  await waitFor(() => request({ port }, '/favicon.svg'), 'nginx to listen').catch((error) => {
    throw new Error(`nginx did not start:\n${nginx.output()}`, { cause: error });
  });
  return {
    ...nginx,
    port,
    configuration,
    accessLog: () =>
      readFileSync(join(directory, 'access.log'), 'utf8')
        .split('\n')
        .filter((line) => line)
        .map((line) => JSON.parse(line)),
  };
}

/** As root, nginx would run its workers as a user who may not be able to read the repository. */
export function nginxArguments(configuration: string, directory: string): string[] {
  const user = process.getuid?.() === 0 ? ' user root;' : '';
  return ['-c', configuration, '-p', directory, '-e', 'stderr', '-g', `daemon off;${user}`];
}

/** What `nginx -t` says of a configuration. */
export function checkNginx(
  configuration: string,
  directory: string,
): { status: number | null; output: string } {
  const { status, stderr, stdout } = spawnSync('nginx', [...nginxArguments(configuration, directory), '-t'], {
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
}

// --------------------------------------------------------------------------------------------------------- app

/** `npm run NAME`, in a process group of its own, which stopAll() ends as a whole. */
export function startScript(
  name: string,
  options: { cwd?: string; env?: Record<string, string> } = {},
): Running {
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, ...options.env };
  const script = run('npm', ['run', '--silent', name], { env, cwd: options.cwd ?? root, group: true });
  endings.push(async () => {
    killIfRunning(-script.pid, 'SIGKILL');
    await script.exited;
  });
  return script;
}

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
  /** For request() and startLoad(). */
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
  const primary = run(
    process.execPath,
    ['--enable-source-maps', ...(options.nodeArguments ?? []), options.entry ?? join(root, 'dist/main.js')],
    {
      // Only what is given: settings of the developer's own shell have no part in a test.
      env: {
        PATH: process.env.PATH,
        NODE_V8_COVERAGE: process.env.COVERAGE_OF_PROCESSES && join(root, process.env.COVERAGE_OF_PROCESSES),
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
  endings.push(async () => {
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
