// @ts-check
// `npm run doctor`: what is wrong with this machine or this copy, why that matters, and which command fixes it.
// It changes nothing, needs Node.js alone, and runs on the host and in the dev container.
// ✔ fine   ✘ error   ! warning   ? could not be checked   - does not apply      Exit code: 1 after an error, else 0

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { constants, existsSync, lstatSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { access, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir, hostname } from 'node:os';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '');
const port = Number(process.env.PORT || 8080);
const inDevContainer = 'WORKSPACE' in process.env; // set by devcontainer.json

// Asked once, for all checks.
const docker = run('docker', 'info', '--format', '{{json .}}');
const containers = askContainers();
const devContainer = containers.then((all) => all.find(({ isDevContainer }) => isDevContainer));

/**
 * What a check has found: a mark, the value seen, and what fixes it where that depends on the value.
 * @typedef {{ mark: '✔' | '✘' | '!' | '?' | '-', value: string, fix?: string }} Answer
 * @typedef {(value: string, fix?: string) => Answer} Mark
 */
const ok = /** @type {Mark} */ ((value) => ({ mark: '✔', value }));
const error = /** @type {Mark} */ ((value, fix) => ({ mark: '✘', value, ...(fix && { fix }) }));
const warning = /** @type {Mark} */ ((value, fix) => ({ mark: '!', value, ...(fix && { fix }) }));
const unknown = /** @type {Mark} */ ((value) => ({ mark: '?', value, fix: 'npm run doctor, once more' }));
const skip = /** @type {Mark} */ ((reason) => ({ mark: '-', value: reason }));

/** @type {{ name: string, ask: () => Answer | Promise<Answer>, why: string, fix?: string }[]} */
const checks = [
  {
    name: 'Node.js',
    ask() {
      const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
      return isAtLeast(process.versions.node, engines.node.replace(/^\D+/, ''));
    },
    why: 'An older one does not compile, test or run the app.',
    fix: 'nvm install --lts, or https://nodejs.org/en/download',
  },
  {
    name: 'Docker Engine',
    async ask() {
      const { code, stdout, stderr } = await docker;
      const info = JSON.parse(stdout || '{}');
      if (info.ServerVersion) return isAtLeast(info.ServerVersion, '25.0');
      if (inDevContainer && !process.env.DOCKER_HOST) return skip('not handed to the dev container');
      if (code === 'ENOENT') return error('no docker on PATH', 'https://docs.docker.com/engine/install/');
      const reason = info.ServerErrors?.join(' ') || stderr.trim().split('\n').at(-1) || 'no answer';
      const isForbidden = reason.includes('permission denied');
      return error(reason, isForbidden ? 'sudo usermod -aG docker "$USER", then log in again' : undefined);
    },
    why: 'The stack and the dev container run in it. Before 25.0 it refuses their health checks (start_interval).',
    fix: 'sudo systemctl restart docker, or restart Docker Desktop; `docker context ls` shows which one is asked',
  },
  {
    name: 'Docker Compose',
    ask: () => askPlugin('compose', '2.24'),
    why: 'It reads docker-compose.yml. Before 2.24 it cannot.',
    fix: 'sudo apt-get install docker-compose-plugin, or https://docs.docker.com/compose/install/',
  },
  {
    name: 'Docker Buildx',
    ask: () => askPlugin('buildx', '0.10'),
    why: 'It builds the images.',
    fix: 'sudo apt-get install docker-buildx-plugin, or https://docs.docker.com/engine/install/',
  },
  {
    name: 'port',
    async ask() {
      if (inDevContainer) return skip('asked on the host');
      const isFree = await once(connect(port), 'connect').catch(() => true);
      if (isFree === true) return ok(`${port} is free`);
      const container = (await containers).find(({ ports }) => ports.includes(port));
      const user = container ?? (await listener());
      const isForwarded = !container && (await devContainer); // by its editor
      if (isForwarded || `${user?.folder}/`.startsWith(`${root}/`)) return ok(`${port} serves this copy`);
      return error(`${port} is taken by ${user?.name ?? 'a process of another user'}`);
    },
    why: 'docker compose up and npm start listen there.',
    fix: `end what has it, or take another port: PORT=${port + 1} docker compose up --wait`,
  },
  {
    name: 'app',
    async ask() {
      const app = (await containers).find((each) => each.folder === root && each.service === 'app');
      const where = app || inDevContainer ? 'socketPath: process.env.LISTEN' : `port: ${port}`;
      // The header is what nginx' private port sets.
      const program = `require('http').get({ ${where}, path: '/readyz', headers: { 'X-Private': 1 } },
        (answer) => answer.on('data', (text) => console.log(answer.statusCode, String(text))))
        .on('error', ({ message }) => console.log(message))`;
      const stdout = (await node(app, program)).stdout.trim();
      if (stdout === '200 ready') return ok('ready');
      const refused = await refusedSettings(app);
      const isHere = app || inDevContainer || stdout.startsWith('503 ');
      if (isHere) return error(refused ?? `GET /readyz: ${stdout || 'no answer'}`);
      return refused ? warning(`npm start would refuse its settings: ${refused}`) : skip('does not run here');
    },
    why: 'It cannot answer requests now. Its log says why.',
    fix: 'docker compose logs app, or look where npm start or npm run dev runs',
  },
  {
    name: 'stacks',
    async ask() {
      const all = await containers;
      // Redis is the same in both.
      const here = all.filter(({ folder, service }) => folder === root && service !== 'redis');
      const stacks = [...new Set(here.map(({ stack }) => stack))];
      if (stacks.length > 1) return warning(`${stacks.join(' and ')} run in this folder`);
      const config = await run('docker', 'compose', 'config', '--format', 'json');
      const { name } = JSON.parse(config.stdout || '{}');
      const other = all.find(({ project, folder }) => project === name && folder !== root);
      if (!other) return ok(stacks[0] ?? 'none runs');
      const fix = `COMPOSE_PROJECT_NAME=${name}-2 docker compose up --wait`;
      return warning(`${name} runs from another folder, too: ${other.folder}`, fix);
    },
    why: 'Two stacks take port, socket and volumes from each other.',
    fix: 'docker compose ls, then docker compose --project-name NAME down for each; start one of them again',
  },
  {
    name: 'dev container',
    async ask() {
      const created = inDevContainer ? changed('/.dockerenv') : (await devContainer)?.created;
      if (!created) return skip('none runs here');
      const definition = ['.devcontainer/devcontainer.json', '.devcontainer/docker-compose.yml'];
      definition.push('docker-compose.yml', 'deploy/Dockerfile');
      const newer = definition.filter((file) => changed(file) > created + 1000);
      return newer.length === 0 ? ok('up to date') : warning(`older than ${newer.join(', ')}`);
    },
    why: 'What was changed there is not in it.',
    fix: 'Rebuild Container in the editor, or npx devcontainer up --workspace-folder . --remove-existing-container',
  },
  {
    name: 'file events',
    async ask() {
      if (process.env.CHOKIDAR_USEPOLLING) return skip('files are polled (CHOKIDAR_USEPOLLING)');
      const container = await devContainer;
      const probe = join(root, `.doctor-${process.pid}`);
      const program = `require('fs').watch(process.env.WORKSPACE || '.', (_, name) => '${probe}'.endsWith(name) && process.exit());
        setTimeout(process.exit, 2000, 3)`;
      const watching = node(container, program);
      let watched;
      while (!watched) {
        await writeFile(probe, '');
        watched = await Promise.race([watching, delay(200)]);
      }
      await rm(probe);
      if (watched.code === 0) return ok('arrive');
      if (watched.code === 3) return warning(`none ${container ? 'in the dev container ' : ''}in 2 s`);
      const [limit] = /EMFILE|ENOSPC/.exec(watched.stderr) ?? [];
      const fix = 'sudo sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288';
      return limit ? warning(limit, fix) : unknown(watched.stderr || 'no answer');
    },
    why: 'Without them a saved file is not compiled and reloaded.',
    fix: 'export CHOKIDAR_USEPOLLING=1, then open the dev container or start npm run dev again',
  },
  {
    name: 'owners',
    async ask() {
      const uid = process.getuid?.();
      const names = ['.', '.git', 'node_modules', 'dist'];
      const mayWrite = (/** @type {string} */ name) => access(join(root, name), constants.W_OK);
      const codes = await Promise.all(names.map((name) => mayWrite(name).catch(({ code }) => code)));
      const foreign = names.filter((_, index) => codes[index] === 'EACCES').join(' ');
      if (foreign === '') return ok('you can write here');
      // The dev container has no capabilities.
      const inside = `on the host: docker exec --privileged --user root --workdir "${root}" ${hostname()}`;
      const sudo = inDevContainer ? inside : 'sudo';
      return error(`uid ${uid} cannot write to ${foreign}`, `${sudo} chown -R ${uid} ${foreign}`);
    },
    why: 'npm ci, tsc and git write there.',
  },
  {
    name: 'line endings',
    async ask() {
      const { code, stdout } = await run('git', 'ls-files', '-z', '--eol');
      if (code !== 0) return skip('asked of git, for which this is no repository');
      const files = [...stdout.matchAll(/w\/(?:crlf|mixed) (?![^\t]*eol=crlf)[^\t]*\t([^\0]+)/g)].map(
        ([, file]) => file,
      );
      if (files.length === 0) return ok('LF');
      return error(`CR LF in ${files.join(', ')}`, `perl -pi -e "s/\\r$//" "${files.join('" "')}"`);
    },
    why: 'In a container, a script whose first line ends so names an interpreter that does not exist.',
  },
  {
    name: 'workspace',
    ask() {
      const { PWD } = process.env; // the path that the user took
      if (PWD && lstatSync(PWD).isSymbolicLink() && realpathSync(PWD) === root)
        return warning(`${PWD} is a symbolic link`, `open ${root} instead`);
      const names = ['.ssh', '.aws', '.bashrc', '.profile', '.zshrc'];
      const beside = names.filter((name) => existsSync(join(root, '..', name)));
      if (beside.length > 0) return warning(`in a home folder, beside ${beside.join(', ')}`);
      const git = join(root, '.git');
      if (!lstatSync(git, { throwIfNoEntry: false })?.isFile()) return ok('a folder of its own');
      const gitFolder = readFileSync(git, 'utf8').replace('gitdir: ', '').trim();
      const isBeside = !relative(dirname(root), resolve(root, gitFolder)).startsWith('..');
      if (isBeside && !isAbsolute(gitFolder)) return ok('a worktree');
      const fix = `echo "gitdir: ${relative(root, gitFolder)}" >.git`;
      return warning(`a worktree of ${gitFolder}`, isBeside ? fix : undefined);
    },
    why: 'The dev container has the folder above this one, all of it and nothing else, under another path.',
    fix: 'move this folder into one of its own; a worktree: beside its repository, by git worktree move',
  },
];

const answers = await Promise.all(checks.map(examine));
const lines = answers.flatMap(({ name, why, mark, value, fix }) => {
  const line = `${mark} ${name.padEnd(16)} ${value}`;
  return '✔-'.includes(mark) ? [line] : [line, `    Why: ${why}`, `    Fix: ${fix}`];
});
const count = (/** @type {string} */ mark) => answers.filter((each) => each.mark === mark).length;
lines.push(`doctor: errors ${count('✘')}, warnings ${count('!')}, not checked ${count('?')}`);
// It is pasted into issues, so it does not name the user. An open connection must not keep the process.
const text = lines.join('\n').replaceAll(`${homedir()}${sep}`, `~${sep}`);
process.stdout.write(`${text}\n`, () => process.exit(count('✘') > 0 ? 1 : 0));

/** Asks one check. What it waits for are commands, which have a limit. @param {(typeof checks)[0]} check */
async function examine({ name, ask, why, fix }) {
  try {
    return { name, why, fix, ...(await ask()) };
  } catch (cause) {
    return { name, why, ...unknown(/** @type {Error} */ (cause).message) };
  }
}

/** @param {string} version @param {string} least */
function isAtLeast(version, least) {
  const isEnough = version.replace(/^v/, '').localeCompare(least, 'en', { numeric: true }) >= 0;
  return isEnough ? ok(version) : error(`${version}, and ${least} or later is needed`);
}

/** @param {string} name @param {string} least */
async function askPlugin(name, least) {
  const { ClientInfo: client } = JSON.parse((await docker).stdout || '{}');
  if (!client) return skip('needs docker');
  const plugin = client.Plugins?.find((/** @type {{ Name: string }} */ { Name }) => Name === name);
  return plugin ? isAtLeast(plugin.Version, least) : error('docker has none');
}

/** What the app does not accept, as it says itself: in its container's log, or else asked here once it is compiled. */
async function refusedSettings(/** @type {{ id: string } | undefined} */ app) {
  const compiled = JSON.stringify(join(root, 'dist/server/config.js'));
  const program = `import(${compiled}).then(({ readConfig }) => readConfig(process.env)).catch(({ message }) => console.log(message))`;
  const { stdout, stderr } = app
    ? await run('docker', 'logs', '--tail', '50', app.id)
    : await run(process.execPath, '-e', program);
  const [, problems] = /.*bad configuration\n((?: {2}[^\n]+\n)+)(?!.*"serving)/s.exec(stdout + stderr) ?? [];
  return problems?.trim().replaceAll(/\n +/g, '; ');
}

/** The process that listens at the port; undefined if it is another user's. */
async function listener() {
  const { code, stdout } = await run('lsof', '-nP', `-iTCP:${port}`, '-sTCP:LISTEN', '-Fpc');
  if (code === 'ENOENT') throw new Error(`${port} is taken, and without lsof nothing shows by whom`);
  const [, pid, command] = /^p(\d+)\nc(.+)/.exec(stdout) ?? [];
  if (!pid) return undefined;
  const place = await run('lsof', '-a', '-p', pid, '-d', 'cwd', '-Fn');
  return { name: `${command} (process ${pid})`, folder: /^n(.+)/m.exec(place.stdout)?.[1] };
}

/** The running containers; none where the engine cannot be asked. */
async function askContainers() {
  const { stdout } = await run('docker', 'ps', '--quiet');
  const inspected = await run('docker', 'inspect', ...(stdout.match(/\S+/g) ?? []));
  /** @type {{ Id: string, Name: string, Created: string, Config: any, NetworkSettings: any }[]} */
  const all = JSON.parse(inspected.stdout || '[]');
  return all.map(({ Id, Name, Created, Config, NetworkSettings }) => {
    const compose = (/** @type {string} */ name) => `${Config.Labels[`com.docker.compose.${name}`]}`;
    const isOfEditor = compose('project.config_files').includes('.devcontainer');
    const ports = Object.values(NetworkSettings.Ports).flatMap((published) => published ?? []);
    return {
      id: Id,
      name: `the container ${Name.slice(1)}`,
      created: Date.parse(Created),
      ports: ports.map(({ HostPort }) => Number(HostPort)),
      isDevContainer: Config.Labels['devcontainer.local_folder'] === root,
      folder: compose('project.working_dir'),
      service: compose('service'),
      project: compose('project'),
      stack: `${compose('project')} (${isOfEditor ? 'development' : 'deployed'})`,
    };
  });
}

/** Runs a program in a container, or here. @param {{ id: string } | undefined} container @param {string} js */
function node(container, js) {
  return container ? run('docker', 'exec', container.id, 'node', '-e', js) : run(process.execPath, '-e', js);
}

/**
 * Runs a command in the repository, for 5 s at most. Its code is ENOENT if there is none, null if it took longer.
 * @param {string} command @param {string[]} args
 * @returns {Promise<{ code: number | string | null, stdout: string, stderr: string }>}
 */
function run(command, ...args) {
  const options = { cwd: root, timeout: 5000, killSignal: /** @type {const} */ ('SIGKILL') };
  const output = promisify(execFile)(command, args, options);
  return output.then((texts) => ({ code: 0, ...texts })).catch((error) => error);
}

/** When a file was changed; 0 if there is none. @param {string} path */
function changed(path) {
  return statSync(resolve(root, path), { throwIfNoEntry: false })?.mtimeMs ?? 0;
}
