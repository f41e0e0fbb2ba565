import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, expect } from '@jest/globals';
import type { Exchange } from '../support/history.ts';
import { judge, sample } from '../support/judgement.ts';
import { ask as askFrom, now } from '../support/load.ts';
import { freePort } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';
import {
  adoptProject,
  atEnd,
  attempt,
  cloneRepository,
  createVolume,
  docker,
  execute,
  inspect,
  prepare,
  type Result,
  removeAll,
  scenario,
  startContainer,
} from './engine.ts';

/** Milliseconds that a busy machine may need to install packages and to compile; an idle one needs a tenth. */
const slow = 240_000;

/** A user whose uid is not the images': a new one if we are root, else the one who runs the tests. */
const user = createUser();
const cli = join(user.home, 'cli/devcontainer.js');
const directory = cloneRepository('Dev.Copy', user.uid);
const workspace = `/workspaces/${basename(directory)}`;
let container: string;
const seconds: { first?: number; second?: number } = {};

prepare(async () => {
  const began = Date.now();
  await up({}, soon);
  await waitFor(async () => (await askSample()).code === 0, 'the first answer', slow);
  seconds.first = (Date.now() - began) / 1000;
});
afterAll(async () => {
  const { first, second } = seconds;
  process.stdout.write(`devcontainer up to the first answer: ${first} s; up again: ${second} s\n`);
  await removeAll();
}, 120_000);

function createUser(): { uid: number; prefix: string[]; home: string } {
  const home = mkdtempSync(join(tmpdir(), 'home-'));
  atEnd(() => rmSync(home, { recursive: true, force: true }));
  cpSync('node_modules/@devcontainers/cli', join(home, 'cli'), { recursive: true }); // this folder may be root's alone
  const own = process.getuid?.() ?? 1000;
  if (own !== 0) return { uid: own, prefix: [], home };
  const uid = 20_000 + Math.floor(Math.random() * 10_000);
  const name = `test-${uid}`; // the client wants one
  execFileSync('useradd', ['--uid', String(uid), '--no-create-home', '--home-dir', home, name], {
    stdio: 'pipe',
  });
  execFileSync('chown', [`${uid}:${uid}`, home]);
  atEnd(() => attempt('userdel', [name]));
  atEnd(() => rmSync(join(tmpdir(), `devcontainercli-${name}`), { recursive: true, force: true }));
  const { gid } = statSync('/var/run/docker.sock');
  const id = String(uid);
  return { uid, home, prefix: ['setpriv', '--reuid', id, '--regid', id, '--groups', String(gid)] };
}

/** What the dev container's client prints as its last line. */
interface Outcome {
  outcome: string;
  containerId: string;
  composeProjectName: string;
  remoteWorkspaceFolder: string;
}

/** Do not wait for what an editor does in the background. */
const soon = '--skip-non-blocking-commands';

async function up(variables: NodeJS.ProcessEnv = {}, ...options: string[]): Promise<void> {
  const [command, ...args] = [
    ...user.prefix,
    process.execPath,
    cli,
    'up',
    '--workspace-folder',
    directory,
    ...options,
  ];
  const output = await execute(command as string, args, { env: { HOME: user.home, ...variables } });
  const outcome = parseOutcome(output);
  container = outcome.containerId;
  expect(outcome.remoteWorkspaceFolder).toBe(workspace);
}

/** Registers the project for removal. */
function parseOutcome(output: string): Outcome {
  const outcome = JSON.parse(/^\{"outcome".*$/m.exec(output)?.[0] ?? '{}') as Outcome;
  expect(outcome).toMatchObject({ outcome: 'success' });
  adoptProject(outcome.composeProjectName);
  return outcome;
}

/** Runs a shell command in the workspace, as its user. */
const shell = (command: string, input = '') =>
  attempt('docker', ['exec', '--interactive', '--workdir', workspace, container, 'bash', '-c', command], {
    input,
  });

/** Asks as the editor's preview does. */
const ask = (path: string, args: string[] = [], id = container) =>
  attempt('docker', ['exec', id, 'curl', '--fail', '--silent', ...args, `http://localhost:8080${path}`]);

/** Every sample request to the container under test, for the app's own judge. */
const history: Exchange[] = [];

/** The app's sample request. */
async function askSample(id = container, exchanges = history): Promise<Result> {
  const begin = now();
  const headers = Object.entries(sample.headers).flatMap(([name, value]) => [
    '--header',
    `${name}: ${value}`,
  ]);
  const result = await ask(sample.path, headers, id);
  const outcome = result.code === 0 ? { status: 200, body: result.output } : { error: result.output };
  exchanges.push({ begin, end: now(), ...outcome });
  return result;
}

/** Saves a file of the workspace on the host. */
function edit(file: string, change: (text: string) => string): void {
  const path = join(directory, file);
  const before = readFileSync(path, 'utf8');
  const after = change(before);
  expect(after).not.toBe(before);
  writeFileSync(path, after);
}

let saves = 0;
/** Saves a new answer and resolves to the milliseconds until no worker gave the old one any more; then restores it. */
async function timeSave(): Promise<number> {
  const file = 'src/server/http-app.ts'; // the one that answers /livez
  const before = readFileSync(join(directory, file));
  saves += 1;
  const answer = `saved-${saves}`;
  const watching = shell(`node - ${answer}`, watcher);
  await shell('sleep 1'); // the watcher asks by then; what it saw earlier is not counted
  const saved = Date.now();
  edit(file, (text) => text.replace("ctx.body = 'alive\\n';", `ctx.body = '${answer}\\n';`));
  const { code, output } = await watching;
  expect([code, output]).toEqual([0, expect.stringMatching(/^\d+\n$/)]);
  writeFileSync(join(directory, file), before);
  await waitFor(async () => (await ask('/livez')).output === 'alive\n', 'the old answer');
  return Number(output) - saved;
}

/** Four clients, each on new connections to nginx, until two seconds have brought only new answers. */
const watcher = `
const http = require('node:http');
let lastOld = 0, firstNew = 0;
const ask = () => new Promise((resolve) => {
  http.get('http://localhost:8080/livez', (answer) => {
    let text = '';
    answer.on('data', (part) => { text += part; });
    answer.on('end', () => resolve(text));
  }).on('error', () => resolve(''));
});
async function watch() {
  while (!firstNew || Date.now() - lastOld < 2000) {
    if ((await ask()) === process.argv[2] + '\\n') firstNew ||= Date.now();
    else lastOld = Date.now();
    await new Promise((resume) => setTimeout(resume, 50));
  }
}
Promise.all(Array.from({ length: 4 }, watch)).then(() => console.log(Math.max(firstNew, lastOld)));
setTimeout(() => process.exit(1), 60000).unref();
`;

scenario(
  'opening it is all that is needed: the page is there, on the port that opens as a preview',
  async () => {
    expect(await askSample()).toMatchObject({ code: 0 });
    expect(judge(history).wrong).toEqual([]);
    const [command, ...args] = [
      ...[...user.prefix, process.execPath, cli, 'read-configuration', '--workspace-folder', directory],
    ];
    const output = await execute(command as string, args, { env: { HOME: user.home } });
    const { configuration } = JSON.parse(/^\{"configuration".*$/m.exec(output)?.[0] ?? '{}');
    expect(configuration).toMatchObject({
      forwardPorts: [8080],
      portsAttributes: { 8080: { onAutoForward: 'openPreview' } },
      otherPortsAttributes: { onAutoForward: 'ignore' },
    });
  },
);

scenario("the page may be shown in an editor's preview, which is a frame", async () => {
  const { output } = await ask('/livez', ['--include']);
  expect(output).toMatch(/^Content-Security-Policy: .*frame-ancestors \*\r?$/m);
});

scenario('the override is no longer than 20 lines', async () => {
  const lines = readFileSync('.devcontainer/docker-compose.yml', 'utf8').trimEnd().split('\n');
  expect(lines.length).toBeLessThanOrEqual(20);
});

scenario("its user is not root and has the host's uid; what it needs to write is its own", async () => {
  const { output } = await shell(
    'id -u; touch here node_modules/here dist/here && stat -c %u here node_modules dist',
  );
  const { uid } = user;
  expect(output).toBe(`${uid}\n${uid}\n${uid}\n${uid}\n`);
  expect(statSync(join(directory, 'here')).uid).toBe(uid);
  expect(statSync(join(directory, 'node_modules')).uid).toBe(uid); // the mount points on the host
  await shell('rm here node_modules/here dist/here');
});

scenario('git works in it, and sees no change', async () => {
  expect(await shell('git status --porcelain')).toEqual({ code: 0, output: '' });
  expect(await shell('git commit --allow-empty --message x')).toMatchObject({
    code: 128,
    output: expect.stringContaining('tell me who you are'), // the editor does
  });
});

scenario('it has the tools of the trade, the linters a while after it was opened', async () => {
  await up();
  for (const command of [
    ...['git --version', 'curl --version', 'redis-cli --version', 'nginx -v', 'redis-server --version'],
    ...['docker --version', 'docker compose version', 'docker buildx version', 'act --version'],
    ...['.github/tools.sh --find', 'npx biome --version', 'npx tsc --version', 'npx devcontainer --version'],
  ]) {
    expect([command, await shell(command)]).toEqual([command, expect.objectContaining({ code: 0 })]);
  }
});

scenario('the host reaches it as well, at a free port', async () => {
  const project = await projectOf(container);
  const address = await docker('compose', '--project-name', project, 'port', 'app', '8080');
  expect(address).toMatch(/^127\.0\.0\.1:\d+$/);
  await askFrom({ port: Number(address.split(':')[1]) }, history);
});

scenario('a save on the host is answered by all workers at once', async () => {
  const milliseconds = [await timeSave(), await timeSave()];
  process.stdout.write(
    `milliseconds from a save to the new answer of all workers: ${milliseconds.join(', ')}\n`,
  );
  expect(Math.min(...milliseconds)).toBeLessThan(slow); // about half a second where nothing else is done
});

scenario(
  'npm test passes in it',
  async () => {
    const { code, output } = await shell('npm test');
    if (code !== 0) throw new Error(output);
    expect(output).toMatch(/^Tests: .* passed/m);
  },
  900_000,
);

scenario('opened again, it is as it was; a changed package-lock.json has been heeded', async () => {
  const began = Date.now();
  await up();
  seconds.second = (Date.now() - began) / 1000;
  await shell('rm -r node_modules/yaml');
  edit('package-lock.json', (text) => `${text}\n`);
  await stopProject();
  await up();
  await waitFor(async () => (await askSample()).code === 0, 'an answer', slow);
  expect(
    (await shell('ls node_modules/yaml/package.json && cmp package-lock.json node_modules/.installed')).code,
  ).toBe(0);
});

const projectOf = (id: string) =>
  docker('inspect', '--format', '{{index .Config.Labels "com.docker.compose.project"}}', id);

/** As closing the editor's window does. */
async function stopProject(): Promise<void> {
  const project = await projectOf(container);
  const ids = await docker('ps', '--quiet', '--filter', `label=com.docker.compose.project=${project}`);
  await docker('stop', '--time', '5', ...ids.split('\n'));
}

scenario('the dev container opens with code that does not compile; fixing it is enough', async () => {
  edit('src/main.ts', (text) => `const mistake = ;\n${text}`);
  await stopProject();
  await up();
  expect((await askSample()).code).not.toBe(0);
  edit('src/main.ts', (text) => text.replace(/^.*\n/, ''));
  await waitFor(async () => (await askSample()).code === 0, 'an answer', slow);
});

scenario(
  'made anew, it still has the history of the shell; it can poll for saves, and have a port that is set',
  async () => {
    await attempt('docker', ['exec', '--interactive', container, 'bash', '-i'], {
      input: 'echo remembered\nexit\n',
    });
    // What a process that waits for events holds open.
    const waitsForEvents = async () => {
      const { code, output } = await shell('ls -l /proc/$(pgrep -f "[b]in/nodemon")/fd');
      expect([code, output]).toEqual([0, expect.stringContaining('pipe')]);
      return output.includes('inotify');
    };
    expect(await waitsForEvents()).toBe(true);
    const before = container;
    const port = await freePort();
    await up({ CHOKIDAR_USEPOLLING: '1', PORT: String(port) }, '--remove-existing-container');
    expect(container).not.toBe(before);
    expect((await shell('cat "$HISTFILE"')).output).toContain('echo remembered');
    await waitFor(async () => (await askSample()).code === 0, 'an answer', slow);
    expect(await waitsForEvents()).toBe(false);
    await askFrom({ port }, history);
    expect(await timeSave()).toBeLessThan(slow);
  },
);

scenario(
  'the deployed stack and the dev container take turns in one folder, and serve the same data',
  async () => {
    const port = await freePort();
    const compose = (...args: string[]) =>
      execute('docker', ['compose', ...args], { cwd: directory, env: { PORT: String(port) } });
    await compose('down');
    await compose('up', '--build', '--detach', '--wait');
    await askFrom({ port }, history);
    await compose('down');
    await up();
    await waitFor(async () => (await askSample()).code === 0, 'an answer', slow);
    expect(judge(history).wrong).toEqual([]);
  },
);

scenario('it opens beside the first from a clone in a volume, as the editor does it', async () => {
  const volume = await createVolume();
  const image = await inspect(container, '.Config.Image');
  const copy = cloneRepository('Volume.Clone');
  const clone = basename(copy);
  const bootstrap = await startContainer(
    ...[
      '--user',
      'root',
      '--volume',
      `${volume}:/workspaces`,
      '--volume',
      '/var/run/docker.sock:/var/run/docker.sock',
    ],
    ...[image, 'sleep', '600'],
  );
  await docker('cp', copy, `${bootstrap}:/workspaces/${clone}`);
  await docker('exec', bootstrap, 'chown', '-R', '1000:1000', '/workspaces');
  const output = await docker(
    ...['exec', bootstrap, 'node', '/home/node/node_modules/@devcontainers/cli/devcontainer.js', 'up'],
    ...['--workspace-folder', `/workspaces/${clone}`, '--update-remote-user-uid-default', 'off', soon],
    ...['--mount', `type=volume,source=${volume},target=/workspaces,external=true`],
  );
  const { containerId } = parseOutcome(output);
  const own: Exchange[] = [];
  await waitFor(async () => (await askSample(containerId, own)).code === 0, 'an answer', slow);
  expect(judge(own).wrong).toEqual([]);
  expect((await askSample()).code).toBe(0);
});
