/**
 * Copies of the repository, Compose projects and containers for tests, all under names of their own. removeAll(), which
 * belongs into an afterAll, removes whatever was made here.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, test } from '@jest/globals';
import { createTrial, type Trial } from '../support/battery/harness.ts';
import type { Exchange } from '../support/history.ts';
import { required } from '../support/judgement.ts';
import { atEnd, stopAll as removeAll } from '../support/processes.ts';
import { cloneWorkingTree } from '../support/repository.ts';
import { freePort } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

export { atEnd, removeAll };

const run = String(Math.random()).slice(2, 8); // digits: YAML takes a name of digits only for a number
const label = `test.run=${run}`;
let networks = 0;
const projects = new Set<string>();

/** Images to test instead of building them, in the variables of docker-compose.yml: all or none. */
const given = Object.fromEntries(
  Object.entries(process.env).filter(([name, value]) => /^(APP|NGINX|REDIS)_IMAGE$/.test(name) && value),
);
const isGiven = Object.keys(given).length > 0;

/** The environment without what would make a copy differ from a fresh clone on a fresh machine. */
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
  atEnd(() => attempt('docker', ['rm', '--force', '--volumes', id]));
  return id;
}

export async function createVolume(): Promise<string> {
  const name = await docker('volume', 'create', '--label', label);
  atEnd(() => attempt('docker', ['volume', 'rm', '--force', name]));
  return name;
}

/**
 * A network with a Redis of the given image, and nothing else. Returns the arguments by which a container of the app
 * finds it, as in docker-compose.yml.
 */
export async function startBackedNetwork(image: string, ...options: string[]): Promise<string[]> {
  const network = `test-${run}-${networks++}`;
  await docker('network', 'create', ...options, network);
  atEnd(() => attempt('docker', ['network', 'rm', network]));
  const volume = `${await createVolume()}:/run/redis`;
  const password = ['--volume', volume, '--env', 'REDIS_PASSWORD_FILE=/run/redis/password'];
  const redis = await startContainer('--network', network, '--network-alias', 'redis', ...password, image);
  const ping = ['exec', redis, 'redis-admin', '-e', 'ping'];
  await waitFor(async () => (await attempt('docker', ping)).code === 0, 'Redis to answer', 30_000);
  const settings = Object.entries({ ...required, REDIS_URL: 'redis://app@redis' });
  const variables = settings.flatMap(([name, value]) => ['--env', `${name}=${value}`]);
  return ['--network', network, ...variables, ...password];
}

/** An image built from a Dockerfile of a few lines. */
export async function deriveImage(name: string, dockerfile: string): Promise<string> {
  const image = `test-${run}-${name}`;
  await execute('docker', ['build', '--quiet', '--tag', image, '-'], { input: dockerfile });
  atEnd(() => attempt('docker', ['image', 'rm', '--force', image]));
  return image;
}

/** A target of the Dockerfile of a copy of the repository. */
export async function buildImage(directory: string, target: string): Promise<string> {
  const image = `test-${run}-${target}`;
  const from = ['--quiet', '--file', 'deploy/Dockerfile', '--target', target, '--tag', image, '.'];
  await execute('docker', ['build', ...from], { cwd: directory });
  atEnd(() => attempt('docker', ['image', 'rm', '--force', image]));
  return image;
}

/**
 * A clone with what is in the working tree, committed or not, as a umask of 077 makes it. No image, project or volume may
 * have the name of its directory as it is. `owner`: the user id that its files belong to.
 */
export function cloneRepository(name: string, owner?: number): string {
  const parent = mkdtempSync(join(tmpdir(), 'clone-'));
  atEnd(() => rmSync(parent, { recursive: true, force: true, maxRetries: 5 }));
  const directory = join(parent, `${name}.${run}`);
  cloneWorkingTree(directory);
  execFileSync('chmod', ['-R', 'go=', directory]);
  if (owner !== undefined) {
    execFileSync('chown', ['-R', `${owner}:${owner}`, parent]);
  }
  return directory;
}

/** Registers a Compose project that something else starts, so that its logs are shown and it is removed. */
export function adoptProject(name: string): void {
  if (projects.has(name)) return;
  projects.add(name);
  atEnd(async () => {
    const ofProject = `label=com.docker.compose.project=${name}`;
    const names = async (...args: string[]) =>
      (await docker(...args, '--quiet', '--filter', ofProject)).split('\n').filter(Boolean);
    const containers = await names('ps', '--all');
    const images = await Promise.all(containers.map((container) => inspect(container, '.Config.Image')));
    if (containers.length > 0) await attempt('docker', ['rm', '--force', '--volumes', ...containers]);
    for (const network of await names('network', 'ls')) await attempt('docker', ['network', 'rm', network]);
    for (const volume of await names('volume', 'ls')) await attempt('docker', ['volume', 'rm', volume]);
    const built = ['app', 'nginx', 'redis', 'development', 'nginx-development'].map(
      (target) => `${name}-${target}`,
    );
    const own = [...images, ...built].filter((image) => image.includes(run));
    await attempt('docker', ['image', 'rm', '--force', ...new Set(own)]);
    projects.delete(name);
  });
}

export interface Stack extends Omit<Trial, 'to'> {
  readonly directory: string;
  readonly name: string;
  readonly address: { port: number };
  /** Variables that are set in each call of Compose. */
  readonly environment: NodeJS.ProcessEnv;
  /** Runs a command of Compose in the copy, with more variables for this one call. */
  compose(args: string[], variables?: NodeJS.ProcessEnv): Promise<string>;
  /** Starts it and waits until it is healthy, with the images that are given, or else with those that it builds. */
  up(variables?: NodeJS.ProcessEnv): Promise<void>;
  /** The id of the one container of a service. */
  container(service: string): Promise<string>;
  /** The image of a service. */
  image(service: string): string;
  /** Runs a shell command in a service's container, as its user or another one. */
  shell(service: string, command: string, user?: string): Promise<Result>;
}

/** The longest time without an answer 200, in milliseconds. */
export function longestGap(history: Exchange[]): number {
  const ends = history.filter(({ status }) => status === 200).map(({ end }) => end);
  const times = [Math.min(...history.map(({ begin }) => begin)), ...ends.toSorted((a, b) => a - b)];
  return Math.max(...times.slice(1).map((time, i) => time - (times[i] as number)));
}

/** The Compose stack of a copy of the repository, not yet up. */
export async function prepareStack(directory: string): Promise<Stack> {
  const port = await freePort();
  const environment: NodeJS.ProcessEnv = { PORT: String(port), ...required, ...given };
  const trial = createTrial({ port });
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
    ...trial,
    address: { port },
    environment,
    compose,
    async up(variables) {
      // An image that is given and not there must be an error: it must not be built.
      await compose(['up', '--detach', '--wait', isGiven ? '--no-build' : '--build'], variables);
    },
    container,
    image: (service) => environment[`${service.toUpperCase()}_IMAGE`] ?? `${name}-${service}`,
    async shell(service, command, user) {
      const as = user === undefined ? [] : ['--user', user];
      return attempt('docker', ['exec', ...as, await container(service), 'sh', '-c', command]);
    },
    // A hundred requests a second or less: the tests are about faults, not about speed.
    startLoad: (options) => trial.startLoad({ busy: 4, keepAlive: false, pause: 40, pausing: 0, ...options }),
  };
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

/** A body that shows the logs of all containers when it fails. */
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

/** jest's test and beforeAll, with the containers' logs on failure and with more time. */
export const scenario = (name: string, body: () => Promise<unknown>, limit = 400_000) =>
  test(name, withLogs(body), limit);
export const prepare = (body: () => Promise<unknown>) => beforeAll(withLogs(body), 600_000);
