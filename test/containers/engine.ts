/**
 * Copies of the repository, Compose projects and containers for tests, all under names of their own. Whatever is
 * made here is removed by removeAll(), which belongs into an afterAll.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, test } from '@jest/globals';
import { type Address, delay, freePort, numberIn, request } from '../processes.ts';
import { cloneWorkingTree } from '../repository.ts';

const run = Math.random().toString(36).slice(2, 8);
const label = `counter.test=${run}`;
const endings: (() => unknown)[] = [];
const projects = new Set<string>();

/** Registers what removeAll() has to do, the latest first. */
export const atEnd = (ending: () => unknown) => endings.push(ending);

/** Images to test instead of building them: the variables that docker-compose.yml knows. */
export const given = { app: process.env.APP_IMAGE, nginx: process.env.NGINX_IMAGE };

/** The environment less what would make a copy anything but a fresh clone on a fresh machine. */
const clean = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^(COMPOSE_|PORT$|REDIS_|LISTEN$|WEB_CONCURRENCY$|LOG_LEVEL$|npm_|INIT_CWD$)/.test(name),
  ),
);

interface Options {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  input?: string;
}

export interface Result {
  code: number;
  /** Standard output and standard error. */
  output: string;
}

/** Runs a command to its end, whatever its exit code. */
export function attempt(command: string, args: string[], options: Options = {}): Promise<Result> {
  return new Promise((resolve) => {
    const child = execFile(
      command,
      args,
      { cwd: options.cwd, env: { ...clean, ...options.env }, maxBuffer: 2 ** 28 },
      (error, stdout, stderr) => {
        const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
        resolve({ code, output: stdout + stderr });
      },
    );
    child.stdin?.on('error', () => {}); // it did not read
    child.stdin?.end(options.input ?? '');
  });
}

/** Runs a command that must succeed; resolves to what it has written. */
export async function execute(command: string, args: string[], options: Options = {}): Promise<string> {
  const { code, output } = await attempt(command, args, options);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}:\n${output}`);
  return output.trim();
}

export const docker = (...args: string[]) => execute('docker', args);

export async function inspect<T = string>(thing: string, format: string): Promise<T> {
  const text = await docker('inspect', '--format', `{{json ${format}}}`, thing);
  return JSON.parse(text) as T;
}

/** A container of this run, detached; resolves to its id. */
export async function startContainer(...args: string[]): Promise<string> {
  const id = await docker('run', '--detach', '--label', label, ...args);
  endings.push(() => attempt('docker', ['rm', '--force', '--volumes', id]));
  return id;
}

export async function createVolume(): Promise<string> {
  const name = await docker('volume', 'create', '--label', label);
  endings.push(() => attempt('docker', ['volume', 'rm', '--force', name]));
  return name;
}

/** An image built from a Dockerfile of a few lines. */
export async function deriveImage(name: string, dockerfile: string): Promise<string> {
  const image = `counter-test-${run}-${name}`;
  await execute('docker', ['build', '--quiet', '--tag', image, '-'], { input: dockerfile });
  endings.push(() => attempt('docker', ['image', 'rm', '--force', image]));
  return image;
}

/** A target of the Dockerfile of a copy of the repository. */
export async function buildImage(directory: string, target: string): Promise<string> {
  const image = `counter-test-${run}-${target}`;
  const from = ['--quiet', '--file', 'deploy/Dockerfile', '--target', target, '--tag', image, '.'];
  await execute('docker', ['build', ...from], { cwd: directory });
  endings.push(() => attempt('docker', ['image', 'rm', '--force', image]));
  return image;
}

/**
 * A clone with what is in the working tree, committed or not, in a directory whose name no image, project or
 * volume may have as it is. Its files are `owner`'s.
 */
export function copyRepository(name: string, owner?: number): string {
  const parent = mkdtempSync(join(tmpdir(), 'counter-'));
  endings.push(() => rmSync(parent, { recursive: true, force: true, maxRetries: 5 }));
  const directory = join(parent, `${name}.${run}`);
  cloneWorkingTree(directory);
  if (owner !== undefined) {
    execFileSync('chown', ['-R', `${owner}:${owner}`, parent]);
  }
  return directory;
}

/** Registers a Compose project that something else starts, so that its logs are shown and it is removed. */
export function adoptProject(name: string): void {
  if (projects.has(name)) return;
  projects.add(name);
  endings.push(async () => {
    const ofProject = `label=com.docker.compose.project=${name}`;
    const names = async (...args: string[]) =>
      (await docker(...args, '--quiet', '--filter', ofProject)).split('\n').filter(Boolean);
    const containers = await names('ps', '--all');
    const images = await Promise.all(containers.map((container) => inspect(container, '.Config.Image')));
    if (containers.length > 0) await attempt('docker', ['rm', '--force', '--volumes', ...containers]);
    for (const network of await names('network', 'ls')) await attempt('docker', ['network', 'rm', network]);
    for (const volume of await names('volume', 'ls')) await attempt('docker', ['volume', 'rm', volume]);
    const own = [...images, `${name}-app`, `${name}-nginx`, `${name}-development`].filter((image) =>
      image.includes(run),
    );
    await attempt('docker', ['image', 'rm', '--force', ...new Set(own)]);
    projects.delete(name);
  });
}

export interface Stack {
  readonly directory: string;
  readonly name: string;
  readonly address: { port: number };
  /** Of the copy's Compose project, with variables for this one call. */
  compose(args: string[], variables?: NodeJS.ProcessEnv): Promise<string>;
  /** The id of the one container of a service. */
  container(service: string): Promise<string>;
  /** Runs a shell command in a service's container, as its user or another one. */
  shell(service: string, command: string, user?: string): Promise<Result>;
  visit(): Promise<number>;
  /** What is set in each call. */
  readonly environment: NodeJS.ProcessEnv;
}

/** Visits and resolves to the visit's number; rejects if it got none. */
export async function visit(to: Address): Promise<number> {
  const { status, body } = await request(to, '/');
  if (status !== 200) throw new Error(`${status}: ${body}`);
  return numberIn(body);
}

/** The Compose stack of a copy of the repository, not yet up. */
export async function prepareStack(directory: string): Promise<Stack> {
  const port = await freePort();
  const environment: NodeJS.ProcessEnv = { PORT: String(port) };
  const compose = (args: string[], variables: NodeJS.ProcessEnv = {}) =>
    execute('docker', ['compose', ...args], { cwd: directory, env: { ...environment, ...variables } });
  const { name } = JSON.parse(await compose(['config', '--format', 'json'])) as { name: string };
  adoptProject(name);
  async function container(service: string): Promise<string> {
    const ids = (await compose(['ps', '--all', '--quiet', service])).split('\n').filter(Boolean);
    if (ids.length !== 1) throw new Error(`${service} has ${ids.length} containers`);
    return ids[0] as string;
  }
  return {
    directory,
    name,
    address: { port },
    environment,
    compose,
    container,
    async shell(service, command, user) {
      const as = user === undefined ? [] : ['--user', user];
      return attempt('docker', ['exec', ...as, await container(service), 'sh', '-c', command]);
    },
    visit: () => visit({ port }),
  };
}

export interface Visits {
  /** The numbers that visits got. */
  numbers: number[];
  /** Of each visit that got none: its status and the beginning of its answer, or its error. */
  failures: string[];
  /** The longest time without an answered visit, in milliseconds. */
  gap: number;
}

/** A hundred visits a second or less, until it is stopped: what happens to the stack counts, not how much it bears. */
export function startVisits(stack: Stack): () => Promise<Visits> {
  const visits: Visits = { numbers: [], failures: [], gap: 0 };
  let running = true;
  let last = performance.now();
  const visitors = Array.from({ length: 4 }, async () => {
    while (running) {
      try {
        visits.numbers.push(await stack.visit());
        visits.gap = Math.max(visits.gap, performance.now() - last);
        last = performance.now();
      } catch (error) {
        visits.failures.push(String(error).slice(0, 200));
      }
      await delay(40);
    }
  });
  const stop = async () => {
    running = false;
    await Promise.all(visitors);
    visits.gap = Math.max(visits.gap, performance.now() - last);
    return visits;
  };
  endings.push(stop);
  return stop;
}

export async function removeAll(): Promise<void> {
  for (let end = endings.pop(); end; end = endings.pop()) await end();
}

async function showLogs(): Promise<void> {
  const filters = [label, ...[...projects].map((name) => `com.docker.compose.project=${name}`)];
  for (const filter of filters) {
    const listed = await docker('ps', '--all', '--quiet', '--filter', `label=${filter}`);
    for (const id of listed.split('\n').filter(Boolean)) {
      const state = await docker('inspect', '--format', '{{.Name}} {{.Config.Image}} {{json .State}}', id);
      const { output } = await attempt('docker', ['logs', '--tail', '100', id]);
      process.stderr.write(`\n===== ${state}\n${output}\n`);
    }
  }
}

/** A body that shows the logs of all containers if it fails. */
function withLogs(body: () => Promise<unknown>): () => Promise<void> {
  return async () => {
    try {
      await body();
    } catch (error) {
      await showLogs();
      throw error;
    }
  };
}

/** Like jest's test and beforeAll, with the containers' logs on failure and minutes to spare. */
export const scenario = (name: string, body: () => Promise<unknown>, limit = 180_000) =>
  test(name, withLogs(body), limit);
export const prepare = (body: () => Promise<unknown>) => beforeAll(withLogs(body), 300_000);
