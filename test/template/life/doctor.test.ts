/**
 * `npm run doctor`: each finding is provoked by the real fault, in a copy in a folder of its own. Where one machine
 * cannot have the fault, a stand-in has it, and the test's name says so. The tests need root, Docker and redis-server.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { git } from '../../support/repository.ts';

interface Result {
  findings: { mark: string; what: string; why: string; mend: string }[];
  last: string;
  said: string;
  code: number | null;
}

const root = process.cwd();
const scratch = mkdtempSync(join(tmpdir(), 'doctor-'));
const [image = ''] =
  /^node:\S+/m.exec(readFileSync('deploy/Dockerfile', 'utf8').replace(/^FROM /gm, '')) ?? [];
const inDevContainer = { WORKSPACE: '/workspaces/copy' };
const ordinaryUser = 1000;

let copy: string;
let port: number;
let number = 0;
const cleaning: (() => unknown)[] = [];

const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: copy, encoding: 'utf8' }).trim();
const read = (path: string) => readFileSync(join(copy, path), 'utf8');

function write(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(join(copy, path)), { recursive: true });
  writeFileSync(join(copy, path), text, { mode });
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  cleaning.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function freePort(): Promise<number> {
  const server = createServer();
  const free = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return free;
}

/** Commands before those of the machine. */
const bin = () => join(copy, '..', 'bin');
const command = (name: string, text: string) => write(`../bin/${name}`, text, 0o755);

/** The environment of a healthy machine. */
function healthy(): Record<string, string> {
  const docker = process.env.DOCKER_HOST ? { DOCKER_HOST: process.env.DOCKER_HOST } : undefined;
  const config = process.env.DOCKER_CONFIG ?? join(homedir(), '.docker');
  return {
    PATH: `${bin()}:${process.env.PATH}`,
    HOME: join(copy, '..'),
    PORT: String(port),
    DOCKER_CONFIG: config,
    PIPELINE_TOOLS: join(copy, '../tools'),
    COMPOSE_PROJECT_NAME: `doctor-${process.pid}-${number}`,
    ...docker,
  };
}

interface Options {
  env?: Record<string, string>;
  uid?: number;
  args?: string[];
  /** What starts it; by default Node.js itself. */
  by?: string[];
}

function doctor({ env = {}, uid = 0, args = [], by = [process.execPath] }: Options = {}): Promise<Result> {
  const [file = '', ...before] = by;
  const child = spawn(file, [...before, '.devcontainer/doctor.mjs', ...args], {
    cwd: copy,
    env: { ...healthy(), ...env },
    uid,
    gid: uid,
  });
  let said = '';
  child.stdout.on('data', (chunk) => (said += chunk));
  child.stderr.on('data', (chunk) => (said += chunk));
  return new Promise((resolve) => child.on('close', (code) => resolve({ ...parse(said), said, code })));
}

function parse(said: string): Pick<Result, 'findings' | 'last'> {
  const blocks = said.trim().split('\n\n');
  const findings = blocks.flatMap((block) => {
    const [, mark = '', what = '', why = '', mend = ''] =
      /^([✘!?]) (.+)\n {2}(.+)\n {2}Mend: (.+)$/.exec(block) ?? [];
    return mark ? [{ mark, what, why, mend }] : [];
  });
  return { findings, last: said.trim().split('\n').at(-1) ?? '' };
}

/** The only finding. */
function only({ findings, said }: Result): Result['findings'][0] {
  const [finding] = findings;
  if (!finding || findings.length > 1) throw new Error(`${findings.length} findings:\n${said}`);
  return finding;
}

/** Among others, which the way of provoking brings along. */
function among({ findings, said }: Result, what: string): Result['findings'][0] {
  const finding = findings.find((each) => each.what.includes(what));
  if (!finding) throw new Error(`no finding says ${what}:\n${said}`);
  return finding;
}

/** A container that is removed after the test. */
function container(...args: string[]): string {
  const id = run('docker', 'run', '--detach', '--init', ...args);
  cleaning.push(() => run('docker', 'rm', '--force', '--volumes', id));
  return id;
}

/** A dev container of the copy, as its client labels it: running, with nothing in it. */
const openDevContainer = (...options: string[]) =>
  container('--label', `devcontainer.local_folder=${copy}`, ...options, image, 'sleep', '300');

/** As the doctor runs in the dev container: the copy mounted, WORKSPACE set. */
const dockerRun = (...options: string[]) => {
  const mount = ['--volume', `${copy}:/workspaces/copy`, '--workdir', '/workspaces/copy'];
  return [
    'docker',
    'run',
    '--rm',
    ...mount,
    '--env',
    `WORKSPACE=${inDevContainer.WORKSPACE}`,
    ...options,
    image,
    'node',
  ];
};

beforeAll(() => {
  expect(process.getuid?.()).toBe(0); // chown, mount and the ordinary user need it
  chmodSync(scratch, 0o755);
});

beforeEach(async () => {
  number++;
  copy = join(scratch, `home ${number}`, 'copy');
  for (const path of [
    '.devcontainer',
    '.github',
    'deploy',
    'docker-compose.yml',
    'package.json',
    'package-lock.json',
  ]) {
    cpSync(join(root, path), join(copy, path), { recursive: true });
  }
  write('src/app/redis.acl', '# What the app may do.\n~visits ~visits:*\n\n+eval +time\n+hset +ping\n');
  // As npm records what it has installed: without the packages of other platforms.
  const packages = Object.entries<{ optional?: boolean }>(JSON.parse(read('package-lock.json')).packages);
  const installed = packages.filter(([path, { optional }]) => path !== '' && !optional);
  write('node_modules/.package-lock.json', JSON.stringify({ packages: Object.fromEntries(installed) }));
  git(copy, 'init', '--quiet');
  // As `npm run tools` leaves them.
  write('../tools/versions', read('.github/requirements.txt') + read('.github/tools.sh'));
  port = await freePort();
});

afterEach(async () => {
  for (const clean of cleaning.splice(0).reverse()) await clean();
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('a healthy machine', () => {
  test('is told in one line', async () => {
    const url = await startRedis('~visits* +@all');
    const { said, code } = await doctor({ env: { REDIS_URL: url } });
    expect(said).toMatch(/^doctor: nothing found \(\d+ checks, on the host\)\n$/);
    expect(code).toBe(0);
  });

  test('is told in one line in the dev container', async () => {
    const [file = '', ...args] = dockerRun();
    // The image of the dev container has git and the tools; this is its base.
    command('git', '#!/bin/sh\n');
    const tools = [
      '--volume',
      `${bin()}/git:/bin/git:ro`,
      '--volume',
      `${join(copy, '../tools')}:/root/.cache/pipeline-tools:ro`,
    ];
    const { said, code } = await doctor({ by: [file, ...args.slice(0, 2), ...tools, ...args.slice(2)] });
    expect(said).toMatch(/^doctor: nothing found \(\d+ checks, in the dev container\)\n$/);
    expect(code).toBe(0);
  });

  test('is told check by check by --verbose', async () => {
    const said = execFileSync('npm', ['run', '--silent', 'doctor', '--', '--verbose'], {
      cwd: copy,
      env: healthy(),
      encoding: 'utf8',
    });
    expect(said).toContain('✔ Docker Engine\n✔ Docker Compose\n');
    expect(said).toContain('- Redis: REDIS_URL is not set\n');
  });
});

test('an option that does not exist is refused', async () => {
  expect(await doctor({ args: ['--mend'] })).toMatchObject({
    said: expect.stringContaining('usage:'),
    code: 2,
  });
});

describe('the exit code', () => {
  test('is 0 after warnings, which the last line counts', async () => {
    write('../tools/versions', 'older\n');
    const result = await doctor();
    expect(only(result)).toMatchObject({
      mark: '!',
      what: 'act and the linters are missing, or not in the versions that are named here.',
      mend: 'npm run tools',
    });
    expect(result).toMatchObject({ code: 0, last: expect.stringMatching(/^doctor: 1 warning \(/) });
  });

  test('is 1 after a fault', async () => {
    const unusable = { ACT_BINARY: join(copy, 'package.json') };
    write('deploy/rollout', read('deploy/rollout').replaceAll('\n', '\r\n'));
    const result = await doctor({ env: unusable });
    expect(result).toMatchObject({ code: 1, last: expect.stringMatching(/^doctor: 1 fault, 1 warning \(/) });
    expect(among(result, 'ACT_BINARY names nothing')).toMatchObject({ mark: '!' });
  });
});

describe('Node.js', () => {
  test('that is too old (a stand-in: the version it tells)', async () => {
    write('../old.cjs', "Object.defineProperty(process.versions, 'node', { value: '18.20.0' });");
    const result = await doctor({ by: [process.execPath, '--require', join(copy, '../old.cjs')] });
    expect(only(result)).toMatchObject({ mark: '✘', what: 'Node.js is 18.20.0.' });
  });
});

describe('Docker', () => {
  /** The real docker's answer to `docker info`, changed. */
  function dockerSays(change: string): void {
    const real = run('which', 'docker');
    command(
      'docker',
      `#!${process.execPath}
      const { spawnSync } = require('node:child_process');
      const args = process.argv.slice(2);
      const { stdout, status } = spawnSync('${real}', args, { encoding: 'utf8' });
      if (args[0] !== 'info') { process.stdout.write(stdout); process.exit(status); }
      const info = JSON.parse(stdout);
      const plugin = (name) => info.ClientInfo.Plugins.find((each) => each.Name === name);
      ${change};
      console.log(JSON.stringify(info));`,
    );
  }

  test('that is missing', async () => {
    for (const tool of ['node', 'git']) command(tool, `#!/bin/sh\nexec ${run('which', tool)} "$@"\n`);
    const result = await doctor({ env: { PATH: `${bin()}` } });
    expect(only(result)).toMatchObject({ mark: '✘', what: 'There is no docker on PATH.' });
  });

  test('whose engine is not running', async () => {
    const finding = only(await doctor({ env: { DOCKER_HOST: `unix://${scratch}/nobody.sock` } }));
    expect(finding).toMatchObject({ mark: '✘', mend: expect.stringContaining('systemctl start docker') });
    expect(finding.what).toMatch(/^Docker Engine cannot be reached: Cannot connect/);
  });

  test('whose engine accepts and is silent', async () => {
    const silent = await listen(createServer());
    const began = Date.now();
    const result = await doctor({ env: { DOCKER_HOST: `tcp://127.0.0.1:${silent}` } });
    expect(only(result)).toMatchObject({ mark: '✘', what: 'Docker Engine does not answer within 5 s.' });
    expect(Date.now() - began).toBeLessThan(15_000);
  });

  test('whose engine the user may not ask', async () => {
    const finding = among(
      await doctor({ uid: ordinaryUser }),
      'Docker Engine cannot be reached: permission denied',
    );
    expect(finding).toMatchObject({ mark: '✘', mend: expect.stringContaining('usermod -aG docker') });
  });

  test.each([
    ['engine', "info.ServerVersion = '24.0.7'", 'Docker Engine is 24.0.7; 25.0 or later is needed.'],
    ['Compose', "plugin('compose').Version = 'v2.17.2'", 'Compose is v2.17.2; 2.24 or later is needed.'],
    ['Buildx', "plugin('buildx').Version = '0.8.2'", 'Buildx is 0.8.2; 0.10 or later is needed.'],
  ])('whose %s is too old (a stand-in for docker)', async (_, change, what) => {
    dockerSays(change);
    expect(only(await doctor())).toMatchObject({ mark: '✘', what });
  });

  test.each(['compose', 'buildx'])('without %s (a stand-in for docker)', async (name) => {
    dockerSays(`info.ClientInfo.Plugins = info.ClientInfo.Plugins.filter(({ Name }) => Name !== '${name}')`);
    expect(only(await doctor())).toMatchObject({
      mark: '✘',
      what: expect.stringMatching(new RegExp(`^docker has no ${name}`, 'i')),
      mend: expect.stringContaining(`docker-${name}-plugin`),
    });
  });

  test.each([
    [60, 'ahead of'],
    [-60, 'behind'],
  ])('whose clock is %s s from ours (a stand-in for docker)', async (seconds, direction) => {
    dockerSays(`info.SystemTime = new Date(Date.parse(info.SystemTime) + ${seconds * 1000}).toISOString()`);
    const { mark, what } = only(await doctor());
    expect(mark).toBe('!');
    expect(what).toMatch(new RegExp(`^The clock of Docker Engine is (59|60) s ${direction}`));
  });

  test('with too little memory (a stand-in for docker)', async () => {
    dockerSays('info.MemTotal = 2 ** 30');
    expect(only(await doctor()).what).toBe(
      'Docker Engine has 1.0 GB of memory; devcontainer.json asks for 4.',
    );
  });
});

describe('the dev container', () => {
  test('with too little memory', async () => {
    const result = await doctor({ by: dockerRun('--memory', '512m') });
    expect(among(result, 'The dev container has 0.5 GB of memory')).toMatchObject({ mark: '!' });
  });

  test('with folders of another user, and the command that mends it', async () => {
    chownSync(join(copy, 'node_modules'), 1234, 1234);
    const mount = ['--volume', `${copy}:/workspaces/copy`, '--env', 'WORKSPACE=/workspaces/copy'];
    const id = openDevContainer(...mount, '--cap-drop', 'ALL'); // as in docker-compose.yml
    const by = ['docker', 'exec', '--user', `${ordinaryUser}`, '--workdir', '/workspaces/copy', id, 'node'];
    const { mark, mend } = among(await doctor({ by }), 'node_modules');
    expect([mark, mend]).toEqual(['✘', expect.stringMatching(/^on the host: docker exec /)]);
    run('sh', '-c', mend.replace('on the host: ', ''));
    expect((await doctor({ by })).said).not.toContain('the owner is');
  });

  test('that is older than its definition, asked on the host and in it', async () => {
    const id = openDevContainer(
      '--volume',
      `${copy}:/workspaces/copy`,
      '--env',
      'WORKSPACE=/workspaces/copy',
    );
    expect((await doctor()).findings).toEqual([]);
    const soon = Date.now() / 1000 + 10;
    utimesSync(join(copy, 'deploy/Dockerfile'), soon, soon);
    const what = 'The dev container was made before deploy/Dockerfile had been changed.';
    expect(only(await doctor())).toMatchObject({ mark: '!', what });
    const inside = await doctor({ by: ['docker', 'exec', '--workdir', '/workspaces/copy', id, 'node'] });
    expect(among(inside, what)).toMatchObject({
      mark: '!',
      mend: expect.stringContaining('Rebuild Container'),
    });
  });

  test('that does not hear of saves on the host (a stand-in: its workspace is another folder)', async () => {
    openDevContainer('--workdir', '/workspaces/copy');
    const { mark, what, mend } = only(await doctor());
    expect(what).toBe('A file that is saved on the host makes no event in the dev container.');
    expect([mark, mend]).toEqual(['!', expect.stringContaining('CHOKIDAR_USEPOLLING=1')]);
    expect(only(await doctor({ env: { CHOKIDAR_USEPOLLING: '1' } })).mark).toBe('?');
  });
});

describe('the disk', () => {
  test('that is full', async () => {
    const text = mkdtempSync(join(scratch, 'small-'));
    run('mount', '-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', text);
    cleaning.push(() => spawnSync('umount', ['--lazy', text]));
    run('cp', '--recursive', copy, `${text}/copy`);
    spawnSync('dd', ['if=/dev/zero', `of=${text}/fill`]);
    const home = { HOME: healthy().HOME ?? '', PATH: healthy().PATH ?? '' };
    copy = join(text, 'copy');
    const finding = among(await doctor({ env: home }), 'The disk of this folder has 0.00 GB left.');
    expect(finding).toMatchObject({ mark: '✘', mend: expect.stringContaining('docker builder prune') });
  });
});

describe('the port', () => {
  const holder =
    'require("net").createServer().listen(process.env.PORT, "127.0.0.1", () => console.log("up"))';

  async function hold(cwd: string): Promise<number | undefined> {
    const child = spawn(process.execPath, ['-e', holder], { cwd, env: { PORT: String(port) } });
    cleaning.push(() => child.kill());
    await new Promise((resolve) => child.stdout.once('data', resolve));
    return child.pid;
  }

  test('that a process has', async () => {
    const pid = await hold(scratch);
    expect(only(await doctor())).toMatchObject({
      mark: '✘',
      what: `Port ${port} is taken by node (process ${pid}).`,
      mend: expect.stringMatching(`^kill ${pid}, or take another one: PORT=${port + 1} `),
    });
  });

  test('that a process of another user has', async () => {
    await hold(scratch);
    const finding = among(
      await doctor({ uid: ordinaryUser }),
      `Port ${port} is taken by a process that cannot be seen`,
    );
    expect(finding.mend).toMatch(/^end that process/);
  });

  test('that a container has', async () => {
    const name = `doctor-${process.pid}-port`;
    container('--name', name, '--publish', `127.0.0.1:${port}:80`, image, 'sleep', '300');
    expect(only(await doctor())).toMatchObject({
      what: `Port ${port} is taken by the container ${name}.`,
      mend: expect.stringMatching(`^docker stop ${name}`),
    });
  });

  test('is no matter where this copy itself serves there', async () => {
    await hold(copy);
    expect((await doctor()).findings).toEqual([]);
  });
});

describe('two stacks', () => {
  const service = `{ image: '${image}', command: [sleep, '300'], init: true, network_mode: none`;

  /** Compose with services of the template's names that do nothing. */
  function compose(project: string, folder: string, ...args: string[]): void {
    const up = ['compose', '--project-name', project, '--project-directory', folder, ...args];
    execFileSync('docker', [...up, 'up', '--detach'], { cwd: folder, stdio: 'pipe' });
    cleaning.push(() => spawnSync('docker', [...up, 'down', '--timeout', '0'], { cwd: folder }));
  }

  beforeEach(() => {
    write('docker-compose.yml', `services:\n  app: ${service} }\n  nginx: ${service} }\n`);
    write('.devcontainer/docker-compose.yml', 'services:\n  app: { environment: [A=1] }\n');
  });

  const name = () => healthy().COMPOSE_PROJECT_NAME ?? '';

  test('in one folder, under two names', async () => {
    compose(name(), copy);
    expect((await doctor()).findings).toEqual([]);
    compose(`${name()}-other`, copy);
    const finding = only(await doctor());
    expect(finding.what).toMatch(/^Two stacks run in this folder: the Compose projects /);
    expect(finding).toMatchObject({
      mark: '!',
      mend: expect.stringMatching(/^docker compose --project-name .* down$/),
    });
  });

  test('in one folder, mixed under one name', async () => {
    compose(name(), copy);
    compose(name(), copy, '--file', 'docker-compose.yml', '--file', '.devcontainer/docker-compose.yml');
    // Compose makes anew what has changed: the app.
    expect(only(await doctor())).toMatchObject({
      mark: '!',
      what: "Two stacks run in this folder: app is the dev container's, nginx the deployed one's.",
    });
  });

  test('of two folders, under one name', async () => {
    const other = join(copy, '..', 'other', 'copy');
    mkdirSync(other, { recursive: true });
    cpSync(join(copy, 'docker-compose.yml'), join(other, 'docker-compose.yml'));
    compose(name(), other);
    expect(only(await doctor())).toMatchObject({
      mark: '!',
      what: `The Compose project ${name()} runs from another folder: ~/other/copy.`, // not where home is
      mend: expect.stringContaining(`COMPOSE_PROJECT_NAME=${name()}-2`),
    });
  });
});

describe('file events', () => {
  test('of which the kernel gives no more', async () => {
    const limited = 'echo 0 >/proc/sys/user/max_inotify_instances && exec node "$@"';
    const result = await doctor({ by: ['unshare', '--user', '--map-root-user', 'sh', '-c', limited, 'sh'] });
    expect(only(result)).toMatchObject({
      mark: '!',
      what: 'A saved file makes no event here (EMFILE).',
      mend: expect.stringContaining('sysctl'),
    });
  });

  test('that do not arrive (a stand-in: a watcher that hears nothing)', async () => {
    const deaf =
      'fs.watch = () => new EventEmitter(); EventEmitter.prototype.close = () => {}; syncBuiltinESMExports()';
    const modules =
      "const fs = require('fs'), { EventEmitter } = require('events'), { syncBuiltinESMExports } = require('module');";
    write('../deaf.cjs', modules + deaf);
    const result = await doctor({ by: [process.execPath, '--require', join(copy, '../deaf.cjs')] });
    expect(only(result)).toMatchObject({ mark: '!', mend: 'CHOKIDAR_USEPOLLING=1 npm run dev' });
  });

  test('leave nothing behind', async () => {
    await doctor();
    expect(git(copy, 'status', '--porcelain', '--untracked-files=all')).not.toContain('.doctor');
  });
});

describe('files', () => {
  test('that another user owns', async () => {
    mkdirSync(join(copy, 'dist'));
    for (const path of ['.', '.git', 'node_modules']) chownSync(join(copy, path), ordinaryUser, ordinaryUser);
    expect(among(await doctor({ uid: ordinaryUser }), 'dist')).toMatchObject({
      mark: '✘',
      what: 'dist: the owner is uid 0, and you, uid 1000, cannot write there.',
      mend: 'sudo chown -R 1000 dist',
    });
  });

  test('with CR LF on disk, and the command that mends it', async () => {
    const before = read('.devcontainer/install');
    write('.devcontainer/install', before.replaceAll('\n', '\r\n'), 0o755);
    const { mark, what, mend } = only(await doctor());
    expect([mark, what]).toEqual(['✘', 'Lines end with CR LF in .devcontainer/install.']);
    run('sh', '-c', mend);
    expect(read('.devcontainer/install')).toBe(before);
  });

  test('of a home directory beside the copy', async () => {
    write('../.ssh/id_ed25519', '');
    const { mark, what } = only(await doctor());
    expect([mark, what]).toEqual(['!', 'Beside this folder there is .ssh: it lies in a home directory.']);
  });

  test('that git refuses, and the command that mends it', async () => {
    const mine = { uid: ordinaryUser, env: { PATH: healthy().PATH ?? '' } };
    chownSync(join(copy, '..'), ordinaryUser, ordinaryUser);
    const { mark, mend } = among(await doctor(mine), 'dubious ownership');
    expect(mark).toBe('✘');
    execFileSync('sh', ['-c', mend], { env: healthy(), uid: ordinaryUser, gid: ordinaryUser });
    expect((await doctor(mine)).said).not.toContain('dubious');
  });

  test('without git', async () => {
    for (const tool of ['node', 'docker']) command(tool, `#!/bin/sh\nexec ${run('which', tool)} "$@"\n`);
    expect(only(await doctor({ env: { PATH: bin() } })).what).toBe('There is no git on PATH.');
  });

  test('of packages that are not what the lock file says', async () => {
    const lock = JSON.parse(read('package-lock.json'));
    lock.packages['node_modules/koa'].version = '99.0.0';
    lock.packages['node_modules/left-pad'] = { version: '1.3.0' };
    write('package-lock.json', JSON.stringify(lock));
    const what = 'node_modules is not what package-lock.json says: 2 differ (koa, left-pad).';
    expect(only(await doctor())).toMatchObject({ mark: '!', what, mend: 'npm ci' });
  });
});

/** A server with one user, app, whose password is pass:word; returns its address. */
async function startRedis(rights: string, ...config: string[]): Promise<string> {
  const redisPort = await freePort();
  const folder = mkdtempSync(join(scratch, 'redis-'));
  const users = ['user default off', `user app on >pass:word ${rights}`];
  writeFileSync(
    join(folder, 'redis.conf'),
    [`port ${redisPort}`, 'save ""', `dir ${folder}`, ...users, ...config].join('\n'),
  );
  const child = spawn('redis-server', [join(folder, 'redis.conf')]);
  cleaning.push(() => child.kill());
  let log = '';
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      log += chunk;
      if (log.includes('Ready to accept')) resolve();
    });
    child.on('error', reject).on('close', () => reject(new Error(log)));
  });
  return `redis://app:pass%3Aword@127.0.0.1:${redisPort}`;
}

describe('Redis', () => {
  const all = '~visits ~visits:* +eval +time +hset +ping';
  const ask = (REDIS_URL: string, env = {}) => doctor({ env: { REDIS_URL, ...env } });

  test('where nobody listens', async () => {
    const { mark, what } = only(await ask(`redis://127.0.0.1:${port}`));
    expect([mark, what]).toEqual(['✘', `Redis at 127.0.0.1:${port} cannot be reached: ECONNREFUSED.`]);
  });

  test('whose name is unknown, as outside of Compose', async () => {
    const { what, mend } = only(await ask('redis://app:secret@redis'));
    expect(what).toMatch(/^Redis at redis:6379 cannot be reached: E/);
    expect(mend).toBe('on the host: docker compose up --detach --wait redis');
  });

  test('that accepts and is silent', async () => {
    const silent = await listen(createServer());
    expect(only(await ask(`redis://127.0.0.1:${silent}`)).what).toMatch('no answer within 2 s');
  });

  test('whose address is none', async () => {
    const result = await ask('http://app:secret@localhost');
    expect(only(result)).toMatchObject({ mark: '✘', what: 'REDIS_URL is no address of Redis.' });
    expect(result.said).not.toContain('secret');
  });

  test.each([
    ['a wrong password', (url: string) => url.replace('word', 'wrong'), 'the user app: WRONGPASS'],
    ['no password', (url: string) => url.replace(/app:.*@/, ''), 'the user default: NOAUTH'],
    [
      'a database that it has not',
      (url: string) => `${url}/99`,
      'the user app: ERR DB index is out of range',
    ],
  ])('which is given %s', async (_, change, expected) => {
    const result = await ask(change(await startRedis(`${all} +select`)));
    expect(only(result)).toMatchObject({ mark: '✘', what: expect.stringContaining(expected) });
    expect(result.said).not.toMatch(/pass:|pass%3A/);
  });

  test.each([
    ['commands', '~visits* +eval +time', 'hset, ping'],
    ['keys', '~visits +eval +time +hset +ping', 'hset on visits:*'],
    ['the command by which it is asked', '~visits* +time +hset +ping', 'eval'],
  ])('where the user lacks %s', async (_, rights, missing) => {
    const { mark, what, mend } = only(await ask(await startRedis(rights)));
    expect([mark, what]).toEqual([
      '✘',
      expect.stringMatching(/^The user app of Redis .* may not what src\/app\/redis.acl names: /),
    ]);
    expect(what.endsWith(`: ${missing}.`)).toBe(true);
    expect(mend).toMatch(/ ACL SETUSER app '~visits' '~visits:\*' \+eval \+time \+hset \+ping$/);
  });

  test('that does not know a command', async () => {
    write('src/app/redis.acl', `${all} +client|nonesuch`.replaceAll(' ', '\n'));
    expect(only(await ask(await startRedis(all)))).toMatchObject({
      mark: '!',
      what: 'Redis does not know the command client nonesuch, which src/app/redis.acl names.',
    });
  });

  test('that cannot be asked, since the app needs no scripts', async () => {
    write('src/app/redis.acl', '~visits\n+hset +ping\n');
    const result = await ask(await startRedis('~visits +hset +ping'));
    expect(only(result).mark).toBe('?');
    expect(result).toMatchObject({ code: 0, last: expect.stringMatching(/^doctor: 1 not checked \(/) });
  });

  test('whose password is in a variable or in a file, as the app reads it', async () => {
    const url = (await startRedis(all)).replace(/:pass%3Aword/, '');
    expect((await ask(url, { REDIS_PASSWORD: 'pass:word' })).findings).toEqual([]);
    write('../password', 'pass:word\n');
    expect((await ask(url, { REDIS_PASSWORD_FILE: join(copy, '../password') })).findings).toEqual([]);
    const { mark, what } = only(await ask(url, { REDIS_PASSWORD_FILE: join(copy, '../nowhere') }));
    expect([mark, what]).toEqual(['✘', 'The file that REDIS_PASSWORD_FILE names cannot be read.']);
  });

  test('is asked without a change to its data', async () => {
    const url = await startRedis('~* +@all');
    await ask(url);
    expect(run('redis-cli', '-u', url, '--no-auth-warning', 'DBSIZE')).toBe('0');
  });

  test('behind TLS, with a certificate that is not trusted, and with one that is', async () => {
    const folder = mkdtempSync(join(scratch, 'tls-'));
    const [key, certificate] = [join(folder, 'key'), join(folder, 'certificate')];
    const request = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '1', '-subj', '/CN=localhost'];
    execFileSync(
      'openssl',
      [...request, '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', certificate],
      {
        stdio: 'pipe',
      },
    );
    const tlsPort = await freePort();
    const files = [`tls-cert-file ${certificate}`, `tls-key-file ${key}`, 'tls-auth-clients no'];
    await startRedis(all, `tls-port ${tlsPort}`, ...files);
    const url = `rediss://app:pass%3Aword@localhost:${tlsPort}`;
    expect(only(await ask(url)).what).toContain('cannot be reached: DEPTH_ZERO_SELF_SIGNED_CERT');
    expect((await ask(url, { NODE_EXTRA_CA_CERTS: certificate })).findings).toEqual([]);
  });
});

test('what is printed does not tell where home is', async () => {
  const elsewhere = join(copy, '..');
  const { said } = await doctor({ uid: ordinaryUser, env: { HOME: elsewhere } });
  expect(said).toContain('~/copy');
  expect(said).not.toContain(elsewhere);
});
