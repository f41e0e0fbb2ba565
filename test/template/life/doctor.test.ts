/**
 * `npm run doctor`: each finding by the real fault, in a copy of its own. Where one machine cannot have the fault, a
 * stand-in has it, and the test's name says so. The tests need root, Docker, jq and lsof.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { startApp } from '../../support/app.ts';
import { atEnd, root, startProcess, stopAll, temporaryDirectory } from '../../support/processes.ts';
import { cloneWorkingTree, git } from '../../support/repository.ts';
import { freePort } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';

const [, image = ''] = /^FROM (node:\S+)/m.exec(readFileSync('deploy/Dockerfile', 'utf8')) ?? [];
const { engines } = JSON.parse(readFileSync('package.json', 'utf8'));
const oldest = engines.node.replace('>=', '');

let above: string;
let copy: string;
let port: number;

const run = (command: string, ...args: string[]) =>
  execFileSync(command, args, { cwd: copy, encoding: 'utf8', env: healthy(), stdio: 'pipe' }).trim();
const read = (path: string) => readFileSync(join(copy, path), 'utf8');

function write(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(join(copy, path)), { recursive: true });
  writeFileSync(join(copy, path), text, { mode });
}

/** A command that comes before the machine's. */
const command = (name: string, text: string) => write(`../bin/${name}`, `#!/bin/sh\n${text}\n`, 0o755);

/** The environment of a healthy machine. */
function healthy(): Record<string, string> {
  const { PATH, DOCKER_HOST, DOCKER_CONFIG = join(homedir(), '.docker') } = process.env;
  return {
    PATH: `${above}/bin:${PATH}`,
    HOME: above,
    PORT: `${port}`,
    DOCKER_CONFIG,
    COMPOSE_PROJECT_NAME: `doctor-${port}`,
    ...(DOCKER_HOST && { DOCKER_HOST }),
  };
}

interface Options {
  env?: Record<string, string>;
  /** An ordinary user, who owns the copy; by default root. */
  uid?: number;
  cwd?: string;
  /** What starts it; by default Node.js itself. */
  by?: string[];
}

interface Answer {
  /** Mark and value. */
  said: string;
  fix: string | undefined;
}

/** What the doctor says, by the names of its checks. */
async function examine({ env, uid = 0, cwd = copy, by = [process.execPath] }: Options = {}) {
  const user = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups'];
  const [file = '', ...args] = [...user, ...by, '.devcontainer/doctor.mjs'];
  const doctor = startProcess(file, args, { cwd, env: { ...healthy(), ...env } });
  const { code } = await doctor.exited;
  const text = doctor
    .output()
    .replaceAll(`${port}`, 'PORT')
    .replaceAll(`${port + 1}`, 'NEXT');
  const checks: Record<string, Answer> = {};
  const line = /^([✔✘!?-]) (.{16}) (.+)(?:\n {4}Why: .+\n {4}Fix: (.+))?$/gm;
  for (const [, mark, name = '', value, fix] of text.matchAll(line)) {
    checks[name.trim()] = { said: `${mark} ${value}`, fix };
  }
  return { code, text, checks };
}

/** Those that are neither fine nor skipped. */
async function findings(options?: Options) {
  const { checks } = await examine(options);
  return Object.fromEntries(Object.entries(checks).filter(([, { said }]) => /^[✘!?]/.test(said)));
}

/**
 * A test that a fault is found, and nothing else. `finding` is the check and the beginning of what it says. A fix after
 * `$ ` is run, and must help.
 */
function fault(finding: string, fix: string, provoke: () => unknown): void {
  test(finding, async () => {
    const options = ((await provoke()) ?? {}) as Options;
    const found = await findings(options);
    const [[check, answer] = [], ...others] = Object.entries(found);
    expect(others).toEqual([]);
    expect(`${check}: ${answer?.said}`).toContain(finding);
    expect(answer?.fix).toContain(fix.replace('$ ', ''));
    if (!fix.startsWith('$ ')) return;
    run('sh', '-c', answer?.fix ?? '');
    expect(await findings(options)).toEqual({});
  });
}

/** A container that is removed after the test. */
function container(...args: string[]): string {
  const id = run('docker', 'run', '--detach', '--init', ...args);
  atEnd(() => run('docker', 'rm', '--force', '--volumes', id));
  return id;
}

const composeLabel = '--label=com.docker.compose';

/** The copy's dev container, as its client labels it: running, with nothing in it. Returns what asks the doctor there. */
function openDevContainer(options: string[] = [], uid = 0): Options {
  const mount = ['--volume', `${copy}:/workspaces/copy`, '--workdir', '/workspaces/copy'];
  const settings = ['--env', 'WORKSPACE=/workspaces/copy', '--env', 'LISTEN=/run/app/app.sock'];
  const label = ['--label', `devcontainer.local_folder=${copy}`];
  const id = container(...label, ...mount, ...settings, ...options, image, 'sleep', '300');
  return { by: ['docker', 'exec', '--user', `${uid}`, id, 'node'] };
}

beforeAll(() => {
  expect(process.getuid?.()).toBe(0);
  execFileSync('npm', ['run', '--silent', 'build']);
});

beforeEach(async () => {
  above = temporaryDirectory();
  chmodSync(above, 0o755);
  copy = join(above, 'copy');
  port = await freePort();
  cloneWorkingTree(copy);
});

afterEach(stopAll);

test('a healthy machine is told check by check, and the file that is written leaves no trace', () => {
  const said = run('npm', 'run', '--silent', 'doctor');
  expect(said).toMatch(/^✔ Node\.js {10}[\d.]+\n✔ Docker Engine {4}/);
  expect(said).toContain(`✔ port             ${port} is free`);
  expect(said).not.toMatch(/^[✘!?]/m);
  expect(said).toMatch(/\ndoctor: errors 0, warnings 0, not checked 0$/);
  expect(git(copy, 'status', '--porcelain')).toBe('');
});

test('the oldest Node.js that package.json allows compiles and tests', () => {
  const commands = [
    '--version',
    'node_modules/.bin/tsc --noEmit',
    'node_modules/.bin/jest server/architecture',
  ];
  const call = [`cd ${root}`, ...commands.map((each) => `node ${each}`)].join(' && ');
  const node = `--package=node@${oldest}.0`;
  expect(run('npm', 'exec', '--yes', node, '--call', call)).toBe(`v${oldest}.0`); // jest writes to standard error
});

fault(`Node.js: ✘ 18.0.0, and ${oldest} or later is needed`, 'nvm install', () => {
  return { by: ['npm', 'exec', '--yes', '--package=node@18.0.0', '--', 'node'] };
});

describe('docker', () => {
  fault('Docker Engine: ✘ no docker on PATH', 'docs.docker.com', () => {
    for (const tool of ['node', 'git', 'setpriv']) command(tool, `exec ${run('which', tool)} "$@"`);
    return { env: { PATH: `${above}/bin` } };
  });
  fault('Docker Engine: ✘ Cannot connect', 'systemctl restart docker', () => {
    return { env: { DOCKER_HOST: `unix://${above}/none.sock` } };
  });
  fault('Docker Engine: ✘ no answer', 'systemctl restart docker', async () => {
    const silent = createServer().listen(port, '127.0.0.1');
    atEnd(() => silent.close());
    return { env: { DOCKER_HOST: `tcp://127.0.0.1:${port}`, PORT: `${await freePort()}` } };
  });
  fault('Docker Engine: ✘ permission denied', 'usermod -aG docker', () => {
    run('chown', '-R', '1000', '.');
    return { uid: 1000 };
  });

  /** A stand-in for docker: the real one, whose `docker info` is changed by jq. */
  const changeInfo = (change: string) => () => {
    const real = run('which', 'docker');
    command('docker', `[ "$1" = info ] || exec ${real} "$@"\n${real} "$@" | jq --compact-output '${change}'`);
  };
  const plugin = (name: string) => `.ClientInfo.Plugins[] | select(.Name == "${name}")`;
  const [compose, buildx] = [plugin('compose'), plugin('buildx')];
  fault('Docker Engine: ✘ 24.0.7, and 25.0 or', 'restart', changeInfo('.ServerVersion = "24.0.7"'));
  fault(
    'Docker Compose: ✘ v2.9.2, and 2.24 or',
    'compose-plugin',
    changeInfo(`(${compose}).Version = "v2.9.2"`),
  );
  fault('Docker Buildx: ✘ 0.8.2, and 0.10 or', 'buildx-plugin', changeInfo(`(${buildx}).Version = "0.8.2"`));
  fault('Docker Compose: ✘ docker has none', 'compose-plugin', changeInfo(`del(${compose})`));
});

describe('what runs', () => {
  async function hold(cwd: string): Promise<void> {
    const program = 'net.createServer().listen(process.env.PORT, "127.0.0.1", () => console.log("up"))';
    const holder = startProcess(process.execPath, ['-e', program], { cwd, env: { PORT: `${port}` } });
    atEnd(() => holder.kill('SIGKILL'));
    await waitFor(() => holder.output().includes('up'));
  }
  fault('port: ✘ PORT is taken by node (process ', 'PORT=NEXT docker compose up', () => hold(above));
  fault('port: ✘ PORT is taken by the container doctor-PORT', 'PORT=NEXT docker compose up', () => {
    container('--name', `doctor-${port}`, '--publish', `127.0.0.1:${port}:80`, image, 'sleep', '300');
  });
  test("port: this copy's own process, and one that may not be seen", async () => {
    await hold(copy);
    expect((await examine()).checks.port?.said).toBe('✔ PORT serves this copy');
    const { port: found } = await findings({ uid: 1000 });
    expect(found?.said).toBe('✘ PORT is taken by a process of another user');
  });

  test('app: ready, gone, and without its Redis', async () => {
    const app = await startApp({ env: { LISTEN: `${port}` } });
    expect((await examine()).checks.app?.said).toBe('✔ ready');
    app.kill('SIGKILL');
    await waitFor(async () => (await examine()).checks.app?.said === '- does not run here');
    await startApp({ env: { LISTEN: `${port}`, REDIS_URL: 'redis://127.0.0.1:1' } });
    const { said, fix } = (await examine()).checks.app ?? {};
    expect(said).toContain('✘ GET /readyz: 503 not ready');
    expect(fix).toContain('docker compose logs app');
  });
  // What the app writes and does that lacks a setting, without its image.
  fault(
    'app: ✘ API_KEY is not set; right would be a key; PORT is "x"; right',
    'docker compose logs app',
    async () => {
      const log =
        'bad configuration\\n  API_KEY is not set; right would be a key\\n  PORT is "x"; right would be a port\\n';
      const labels = [`${composeLabel}.service=app`, `${composeLabel}.project.working_dir=${copy}`];
      const id = container(
        ...labels,
        '--restart',
        'always',
        image,
        'sh',
        '-c',
        `printf '${log}' >&2; exit 1`,
      );
      await waitFor(
        () => run('docker', 'inspect', '--format', '{{.RestartCount}}', id) !== '0',
        'it to fail',
        30_000,
      );
    },
  );
  test('app: what npm start would refuse', async () => {
    run('cp', '-r', join(root, 'dist'), '.');
    expect((await examine()).checks.app?.said).toBe('- does not run here');
    const { app } = await findings({ env: { LOG_LEVEL: 'loud' } });
    expect(app?.said).toContain(
      'npm start would refuse its settings: LOG_LEVEL is "loud"; right would be one of',
    );
  });
  // A stand-in for the app in its container, which answers /readyz at its socket to nginx' private port alone.
  fault('app: ✘ GET /readyz: 503 asked', 'docker compose logs app', async () => {
    const program = `http.createServer(({ headers }, to) => to.writeHead(headers['x-private'] ? 503 : 404).end('asked'))
      .listen(process.env.LISTEN, () => console.log('up'))`;
    const labels = [`${composeLabel}.service=app`, `${composeLabel}.project.working_dir=${copy}`];
    const id = container(...labels, '--env', 'LISTEN=/tmp/app.sock', image, 'node', '-e', program);
    await waitFor(() => run('docker', 'logs', id) === 'up');
  });

  /** Two services that do nothing. */
  function up(project: string, folder: string, ...files: string[]): void {
    const service = `{ image: '${image}', command: [sleep, '300'], init: true, network_mode: none }`;
    write('docker-compose.yml', `services:\n  web: ${service}\n  nginx: ${service}\n`);
    write('.devcontainer/docker-compose.yml', 'services:\n  web: { environment: [A=1] }\n');
    const all = ['docker-compose.yml', ...files].flatMap((file) => ['--file', join(copy, file)]);
    const compose = ['compose', '--project-name', project, '--project-directory', folder, ...all];
    atEnd(() => run('docker', ...compose, 'down', '--timeout', '0'));
    run('docker', ...compose, 'up', '--detach');
  }
  fault('(deployed) run in this folder', 'docker compose ls', () => {
    up(`doctor-${port}`, copy);
    up(`doctor-${port}-other`, copy);
  });
  fault('doctor-PORT (development)', 'docker compose ls', () => {
    up(`doctor-${port}`, copy);
    up(`doctor-${port}`, copy, '.devcontainer/docker-compose.yml'); // replaces what has changed: web
  });
  fault('stacks: ! doctor-PORT runs from another folder, too: ~/other', '_NAME=doctor-PORT-2 ', () => {
    mkdirSync(`${above}/other`);
    up(`doctor-${port}`, `${above}/other`);
  });
});

describe('the dev container', () => {
  test('is examined from inside', async () => {
    const { checks, code } = await examine(openDevContainer());
    expect(checks.app?.said).toBe('✘ GET /readyz: connect ENOENT /run/app/app.sock');
    expect(Object.values(checks).filter(({ said }) => /^[✘!?]/.test(said))).toHaveLength(1);
    expect(code).toBe(1);
  });

  test('is older than its definition, as seen from the host and from inside', async () => {
    const inside = openDevContainer();
    expect((await examine()).checks['dev container']?.said).toBe('✔ up to date');
    const soon = Date.now() / 1000 + 10;
    utimesSync(join(copy, 'deploy/Dockerfile'), soon, soon);
    const fix = expect.stringContaining('Rebuild Container');
    const stale = { 'dev container': { said: '! older than deploy/Dockerfile', fix } };
    expect(await findings()).toEqual(stale);
    expect(await findings(inside)).toMatchObject(stale);
  });

  test('has folders of another user, and the fix helps', async () => {
    const inside = openDevContainer(['--cap-drop', 'ALL'], 1000); // as in docker-compose.yml
    const { owners } = await findings(inside);
    expect(owners?.said).toBe('✘ uid 1000 cannot write to . .git');
    run('sh', '-c', owners?.fix?.replace('on the host: ', '') ?? '');
    expect((await examine(inside)).checks.owners?.said).toBe('✔ you can write here');
  });

  // A stand-in for a file system without events: the container watches another folder.
  fault('file events: ! none in the dev container in 2 s', 'CHOKIDAR_USEPOLLING=1', () => {
    openDevContainer(['--env', 'WORKSPACE=/tmp']);
  });
});

describe('files', () => {
  fault('file events: ! EMFILE', 'sudo sysctl fs.inotify', () => {
    const limited = 'echo 0 >/proc/sys/user/max_inotify_instances && exec node "$@"';
    return { by: ['unshare', '--user', '--map-root-user', 'sh', '-c', limited, 'sh'] };
  });
  fault('owners: ✘ uid 1000 cannot write to dist', '$ sudo chown', () => {
    run('chown', '-R', '1000', '.');
    mkdirSync(join(copy, 'dist'));
    command('sudo', 'exec "$@"');
    command('docker', `[ "$1" != info ] || echo '{ "ServerVersion": "25.0" }'`); // which this user may not ask
    return { uid: 1000 };
  });
  fault('line endings: ✘ CR LF in .devcontainer/serve', '$ perl', () => {
    write('.devcontainer/serve', read('.devcontainer/serve').replaceAll('\n', '\r\n'), 0o755);
  });
  fault('workspace: ! in a home folder, beside .ssh', 'move this folder', () => {
    write('../.ssh/id_ed25519', '');
  });
  fault('workspace: ! ~/link is a symbolic link', 'open ~/copy instead', () => {
    symlinkSync(copy, `${above}/link`);
    const link = `${above}/link`;
    return { cwd: link, env: { PWD: link }, by: ['npm', 'run', '--silent', 'doctor', '--'] }; // as a shell does
  });
  fault('workspace: ! a worktree of ~/copy/.git/worktrees/near', '$ echo "gitdir: ../copy/', () => {
    git(copy, 'worktree', 'add', '--quiet', `${above}/near`);
    copy = `${above}/near`;
  });
  fault('workspace: ! a worktree of ~/copy/.git/worktrees/far', 'git worktree move', () => {
    git(copy, 'worktree', 'add', '--quiet', `${above}/trees/far`);
    copy = `${above}/trees/far`;
  });
});
