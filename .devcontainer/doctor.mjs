// `npm run doctor [-- --verbose]`: what is wrong with this machine or with this copy, why it matters, and what mends it.
// It changes nothing. It needs Node.js alone, runs on the host and in the dev container, and takes seconds.
//
// ✘ does not work   ! works, but …   ? could not be checked      Exit code: 1 after a ✘, else 0.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  watch,
} from 'node:fs';
import { rm, statfs, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir, hostname, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '');
const inDevContainer = 'WORKSPACE' in process.env; // set by devcontainer.json
const checkLimit = 9000; // milliseconds
const commandLimit = 5000;
const eventLimit = 2000;

/** What is checked, in the order in which it is told. A check returns findings, or why it does not apply here. */
const checks = {
  'Node.js': checkNode,
  'Docker Engine': checkEngine,
  'Docker Compose': () => checkPlugin('compose', 'Compose', [2, 24], 'the stack and the dev container'),
  'Docker Buildx': () => checkPlugin('buildx', 'Buildx', [0, 10], 'images and the pipeline'),
  clock: checkClock,
  memory: checkMemory,
  disk: checkDisk,
  port: checkPort,
  stacks: checkStacks,
  'dev container': checkDevContainer,
  'file events': checkFileEvents,
  'file owners': checkOwners,
  'line endings': checkLineEndings,
  'folder above': checkFolderAbove,
  git: checkGit,
  packages: checkPackages,
  Redis: checkRedis,
  act: checkAct,
};

const finding = (mark) => (what, why, mend) => ({ mark, what, why, mend });
const fault = finding('✘');
const warning = finding('!');
const unknown = finding('?');
const askAgain = ['What this check would have found is not known.', 'npm run doctor, once more'];

const [option] = process.argv.slice(2);
if (option !== undefined && option !== '--verbose') {
  console.error('usage: npm run doctor [-- --verbose]');
  process.exit(2);
}
const reports = await Promise.all(Object.entries(checks).map(examine));
const findings = reports.flatMap(({ findings }) => findings);
const lines = findings.map(({ mark, what, why, mend }) => `${mark} ${what}\n  ${why}\n  Mend: ${mend}\n`);
if (option === '--verbose') lines.push(...reports.map(status), '');
const text = withoutHome([...lines, summary()].join('\n'));
// Connections that a check has left open must not keep the process.
process.stdout.write(`${text}\n`, () => process.exit(findings.some(({ mark }) => mark === '✘') ? 1 : 0));

/** Runs one check, for as long as it may take. */
async function examine([name, check]) {
  try {
    const result = await within(checkLimit, check());
    if (typeof result === 'string') return { name, skipped: result, findings: [] };
    return {
      name,
      findings: result ?? [unknown(`${name}: no result within ${checkLimit / 1000} s.`, ...askAgain)],
    };
  } catch (error) {
    return { name, findings: [unknown(`${name}: ${error.message}.`, ...askAgain)] };
  }
}

function status({ name, skipped, findings }) {
  if (skipped) return `- ${name}: ${skipped}`;
  return `${findings[0]?.mark ?? '✔'} ${name}`;
}

function summary() {
  const count = (mark, word) => {
    const number = findings.filter((each) => each.mark === mark).length;
    return number === 0 ? [] : [`${number} ${word}${number === 1 || word === 'not checked' ? '' : 's'}`];
  };
  const found = [...count('✘', 'fault'), ...count('!', 'warning'), ...count('?', 'not checked')];
  const checked = reports.filter(({ skipped }) => !skipped).length;
  const where = inDevContainer ? 'in the dev container' : 'on the host';
  return `doctor: ${found.join(', ') || 'nothing found'} (${checked} checks, ${where})`;
}

/** What is printed is pasted into issues: it does not tell whose machine it is. */
function withoutHome(text) {
  return homedir().length > 1 ? text.replaceAll(homedir(), '~') : text;
}

// ---- The machine

function checkNode() {
  const { node } = process.versions;
  if (Number.parseInt(node, 10) >= 20) return [];
  const why = 'The app, its tests and its tools need 20 or later.';
  return [fault(`Node.js is ${node}.`, why, 'nvm install 20, or https://nodejs.org/en/download')];
}

async function checkEngine() {
  const { missing, late, info, stderr } = await docker();
  const why = 'The dev container, the stack and the pipeline run in it.';
  if (inDevContainer && !info.ServerVersion && !process.env.DOCKER_HOST)
    return 'is not handed to the dev container';
  if (missing) return [fault('There is no docker on PATH.', why, 'https://docs.docker.com/engine/install/')];
  if (late) {
    const what = `Docker Engine does not answer within ${commandLimit / 1000} s.`;
    return [fault(what, why, 'sudo systemctl restart docker, or restart Docker Desktop')];
  }
  if (!info.ServerVersion) {
    const error = info.ServerErrors?.join(' ') || stderr.trim().split('\n').at(-1) || 'it does not say why.';
    const mend = error.includes('permission denied')
      ? 'sudo usermod -aG docker "$USER", then log in again'
      : 'sudo systemctl start docker, or start Docker Desktop; `docker context ls` shows what is asked';
    return [fault(`Docker Engine cannot be reached: ${error}`, why, mend)];
  }
  if (isAtLeast(info.ServerVersion, [25, 0])) return [];
  const reason = 'Before 25.0 it does not know start_interval, with which health checks find out in time.';
  const mend = 'https://docs.docker.com/engine/install/';
  return [fault(`Docker Engine is ${info.ServerVersion}; 25.0 or later is needed.`, reason, mend)];
}

async function checkPlugin(name, title, least, user) {
  const { missing, late, info } = await docker();
  if (missing || late) return 'needs docker';
  const version = info.ClientInfo?.Plugins?.find((plugin) => plugin.Name === name)?.Version;
  const needed = least.join('.');
  const why = `It is what makes ${user}.`;
  const mend = `sudo apt-get install docker-${name}-plugin, or https://docs.docker.com/engine/install/`;
  if (!version) return [fault(`docker has no ${title}.`, why, mend)];
  if (isAtLeast(version, least)) return [];
  return [fault(`${title} is ${version}; ${needed} or later is needed.`, why, mend)];
}

async function checkClock() {
  const { info, began, ended } = await docker();
  if (!info.ServerVersion) return 'needs Docker Engine';
  const time = Date.parse(info.SystemTime);
  const ahead = time > ended ? time - ended : Math.min(time - began, 0);
  if (Math.abs(ahead) <= 2000) return [];
  const seconds = Math.round(Math.abs(ahead) / 1000);
  const what = `The clock of Docker Engine is ${seconds} s ${ahead > 0 ? 'ahead of' : 'behind'} the one of this machine.`;
  const why = 'Certificates and tokens look expired, and the times in the logs do not match.';
  const mend = 'sudo timedatectl set-ntp true, where the engine runs; with Docker Desktop: restart it';
  return [warning(what, why, mend)];
}

async function checkMemory() {
  const definition = read('.devcontainer/devcontainer.json') ?? '';
  const wanted = Number(/"memory":\s*"(\d+)gb"/.exec(definition)?.[1] ?? 0);
  const { info } = await docker();
  const bytes = inDevContainer ? process.constrainedMemory?.() || totalmem() : info.MemTotal;
  if (!bytes) return 'needs Docker Engine';
  const has = Math.min(bytes, totalmem()) / 2 ** 30;
  if (has >= wanted * 0.9) return []; // a machine that is sold with 4 GB shows less
  const owner = inDevContainer ? 'The dev container' : 'Docker Engine';
  const what = `${owner} has ${has.toFixed(1)} GB of memory; devcontainer.json asks for ${wanted}.`;
  const why = 'The kernel kills compiler, tests or editor when there is no more.';
  return [
    warning(what, why, 'give it more: in Docker Desktop under Settings, Resources; in WSL in .wslconfig'),
  ];
}

async function checkDisk() {
  const { info } = await docker();
  const engineRoot = info.DockerRootDir; // Docker Desktop's is not here
  const places = {
    'this folder': root,
    'Docker Engine': engineRoot && existsSync(engineRoot) ? engineRoot : root,
  };
  const free = await Promise.all(
    Object.entries(places).map(async ([name, path]) => {
      const { bavail, bsize } = await statfs(path);
      return { name, gigabytes: (bavail * bsize) / 1e9 };
    }),
  );
  const least = free.reduce((a, b) => (b.gigabytes < a.gigabytes ? b : a));
  if (least.gigabytes >= 2) return [];
  const kind = least.gigabytes < 0.2 ? fault : warning;
  const what = `The disk of ${least.name} has ${least.gigabytes.toFixed(2)} GB left.`;
  const why = 'Images and packages take 2 GB, and Redis stops when it cannot write.';
  return [kind(what, why, 'docker system df, then docker builder prune and docker image prune')];
}

// ---- What runs here

async function checkPort() {
  if (inDevContainer) return 'is asked on the host';
  const port = Number(process.env.PORT || 8080);
  if (!(await accepts(port))) return [];
  const list = await containers();
  const container = list.find(({ ports }) => ports.includes(`:${port}->`));
  if (container?.folder === root) return [];
  if (list.some(({ devContainerOf }) => devContainerOf === root)) return []; // its editor forwards the port
  const user = container ? { name: `the container ${container.name}` } : await listener(port);
  if (`${user?.folder}/`.startsWith(`${root}/`)) return []; // npm start
  const stop = container ? `docker stop ${container.name}` : user ? `kill ${user.pid}` : 'end that process';
  const what = `Port ${port} is taken by ${user?.name ?? 'a process that cannot be seen from here'}.`;
  const why = 'docker compose up and npm start listen there.';
  return [fault(what, why, `${stop}, or take another one: PORT=${port + 1} docker compose up --wait`)];
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** The process that listens on a port, where it can be seen: on Linux by proc(5), elsewhere by lsof. */
async function listener(port) {
  if (process.platform === 'linux') return listenerByProc(port);
  const { stdout } = await run('lsof', ['-nP', `-iTCP:${port}`, '-sTCP:LISTEN', '-Fpc']);
  const [, pid, command] = /^p(\d+)\nc(.*)/.exec(stdout) ?? [];
  return pid && { pid, name: `${command} (process ${pid})` };
}

function listenerByProc(port) {
  const address = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = ['tcp', 'tcp6']
    .flatMap((table) => (read(`/proc/net/${table}`) ?? '').split('\n'))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local?.endsWith(address) && state === '0A') // LISTEN
    .map((fields) => `socket:[${fields[9]}]`);
  const pid = readdirSync('/proc').find((each) => /^\d+$/.test(each) && holds(each, sockets));
  if (!pid) return undefined;
  const name = `${read(`/proc/${pid}/comm`)?.trim()} (process ${pid})`;
  return { pid, name, folder: readlinkSync(`/proc/${pid}/cwd`) };
}

function holds(pid, sockets) {
  try {
    const folder = `/proc/${pid}/fd`;
    return readdirSync(folder).some((fd) => sockets.includes(readlinkSync(join(folder, fd))));
  } catch {
    return false; // another user's, or it has ended
  }
}

async function checkStacks() {
  if (!(await docker()).info.ServerVersion) return 'needs Docker Engine';
  const running = await containers();
  const here = running.filter(({ folder, project }) => folder === root && project);
  const projects = [...new Set(here.map(({ project }) => project))];
  if (projects.length > 1) {
    const what = `Two stacks run in this folder: the Compose projects ${projects.join(' and ')}.`;
    const why = 'They share the port and the files, and each command of Compose reaches one of them only.';
    return [warning(what, why, `docker compose --project-name ${projects[1]} down`)];
  }
  const config = await run('docker', ['compose', 'config', '--format', 'json']);
  const name = parse(config.stdout)?.name;
  const other = running.find(({ project, folder }) => name && project === name && folder !== root);
  if (other) {
    const what = `The Compose project ${name} runs from another folder: ${other.folder}.`;
    const why = 'A stack that is started here takes the place of that one, and shares its volumes.';
    const mend = `start this one under a name of its own: COMPOSE_PROJECT_NAME=${name}-2 docker compose up --wait`;
    return [warning(what, why, mend)];
  }
  const isOfDevContainer = ({ files }) => files.includes('.devcontainer');
  const [app, nginx] = ['app', 'nginx'].map((service) => here.find((each) => each.service === service));
  if (!app || !nginx || isOfDevContainer(app) === isOfDevContainer(nginx)) return [];
  const [one, two] = isOfDevContainer(app) ? ['app', 'nginx'] : ['nginx', 'app'];
  const what = `Two stacks run in this folder: ${one} is the dev container's, ${two} the deployed one's.`;
  const why = 'nginx and the app meet in a volume, and each stack has its own: no request is answered.';
  return [warning(what, why, 'docker compose down, then open one of the two')];
}

async function checkDevContainer() {
  const created = inDevContainer ? changed('/.dockerenv') : (await ownDevContainer())?.created;
  if (!created) return 'none runs, as far as can be seen';
  const definition = [
    '.devcontainer/devcontainer.json',
    '.devcontainer/docker-compose.yml',
    'docker-compose.yml',
  ];
  const newer = [...definition, 'deploy/Dockerfile'].filter(
    (file) => changed(join(root, file)) > created + 1000,
  );
  if (newer.length === 0) return [];
  const what = `The dev container was made before ${newer.join(', ')} had been changed.`;
  const why = 'What was changed there is not in it.';
  const command = 'npx @devcontainers/cli up --workspace-folder . --remove-existing-container';
  return [warning(what, why, `Rebuild Container in the editor, or on the host: ${command}`)];
}

function changed(path) {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs;
}

async function ownDevContainer() {
  return (await containers()).find(({ devContainerOf }) => devContainerOf === root);
}

// ---- Files

/** Whether the tools that watch files hear of a save: here, and in this folder's dev container. */
async function checkFileEvents() {
  const probe = `.doctor-${process.pid}`;
  const container = inDevContainer ? undefined : await ownDevContainer();
  const watchers = [];
  try {
    watchers.push(watchHere(probe));
    if (container) watchers.push(watchInContainer(container, probe));
    const watching = await within(commandLimit, Promise.all(watchers.map(({ ready }) => ready)));
    if (!watching) return [unknown('The dev container does not answer.', ...askAgain)];
    await writeFile(join(root, probe), '');
    const [here, there] = await Promise.all(watchers.map(({ event }) => within(eventLimit, event)));
    return [...(here ? [] : [noEventHere()]), ...(there || !container ? [] : [noEventInContainer()])];
  } catch (error) {
    if (error.syscall === 'watch') return [noEventHere(error.code)];
    if (error.syscall === 'open') return 'needs to write into this folder';
    throw error;
  } finally {
    for (const { stop } of watchers) stop();
    await rm(join(root, probe), { force: true });
  }
}

function watchHere(probe) {
  const watcher = watch(root);
  const event = new Promise((resolve) => watcher.on('change', (_, name) => name === probe && resolve(true)));
  return { ready: true, event, stop: () => watcher.close() };
}

/** The same by Node.js in the container, which says when it watches and when it has heard. */
function watchInContainer({ id }, probe) {
  const program = `
    require('fs').watch(process.env.WORKSPACE || '.', (_, name) => name === '${probe}' && console.log('heard'));
    console.log('watching');
    setTimeout(process.exit, ${checkLimit});`;
  const child = execFile('docker', ['exec', id, 'node', '-e', program], () => {});
  const said = (word) =>
    new Promise((resolve) => child.stdout.on('data', (text) => text.includes(word) && resolve(true)));
  return { ready: said('watching'), event: said('heard'), stop: () => child.kill() };
}

function noEventHere(code = 'no event within 2 s') {
  const what = `A saved file makes no event here (${code}).`;
  const why = '`npm run dev` waits for events, so that it would not notice a save.';
  const mend = /^E/.test(code)
    ? 'sudo sysctl fs.inotify.max_user_watches=524288 fs.inotify.max_user_instances=512'
    : 'CHOKIDAR_USEPOLLING=1 npm run dev';
  return warning(what, why, mend);
}

function noEventInContainer() {
  const what = 'A file that is saved on the host makes no event in the dev container.';
  const why = 'The app there is not reloaded when you save.';
  const mend = 'export CHOKIDAR_USEPOLLING=1, then open the dev container again';
  return process.env.CHOKIDAR_USEPOLLING
    ? unknown(what, 'CHOKIDAR_USEPOLLING is set: files are read again and again instead.', 'nothing to do')
    : warning(what, why, mend);
}

function checkOwners() {
  const uid = process.getuid?.();
  if (uid === undefined) return 'is not a matter on Windows';
  const paths = ['.', '.git', 'node_modules', 'dist', 'coverage'].filter((path) =>
    existsSync(join(root, path)),
  );
  const foreign = paths.filter((path) => !isWritable(join(root, path)));
  if (foreign.length === 0) return [];
  const owner = statSync(join(root, foreign[0])).uid;
  const what = `${foreign.join(', ')}: the owner is uid ${owner}, and you, uid ${uid}, cannot write there.`;
  const why = 'npm ci, tsc and git write there.';
  const chown = (folder) => `chown -R ${uid} ${foreign.map((path) => quote(join(folder, path))).join(' ')}`;
  const mend = inDevContainer
    ? `on the host: docker exec --privileged --user root ${hostname()} ${chown(root)}` // the container has no capabilities
    : `sudo ${chown('.')}`;
  return [fault(what, why, mend)];
}

function isWritable(path) {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function checkLineEndings() {
  const folders = ['.devcontainer', '.github', 'deploy'];
  const files = folders.flatMap((folder) => filesIn(folder)).concat('src/app/redis.acl');
  const broken = files.filter((file) => read(file)?.includes('\r\n'));
  if (broken.length === 0) return [];
  const what = `Lines end with CR LF in ${broken.join(', ')}.`;
  const why = 'In a container the first line of a script then names an interpreter that does not exist.';
  return [fault(what, why, `perl -pi -e "s/\\r$//" ${broken.map(quote).join(' ')}`)];
}

function filesIn(folder) {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? filesIn(path) : [path];
  });
}

function checkFolderAbove() {
  const ofHome = ['.ssh', '.aws', '.bashrc', '.profile', '.zshrc'];
  const found = ofHome.filter((name) => existsSync(join(root, '..', name)));
  if (found.length === 0) return [];
  const what = `Beside this folder there is ${found.join(', ')}: it lies in a home directory.`;
  const why =
    'The dev container mounts the folder above the repository, so what runs in it can read and change those.';
  return [warning(what, why, 'move this folder into one of its own, or clone it into a volume')];
}

async function checkGit() {
  const { missing, stderr, ok } = await run('git', ['rev-parse', '--git-dir']);
  if (missing) {
    const why = 'npm run check, npm run upgrade and the pipeline ask git which files there are.';
    return [warning('There is no git on PATH.', why, 'https://git-scm.com/downloads')];
  }
  if (ok) return [];
  if (!stderr.includes('dubious ownership')) return 'this is no repository';
  const what = 'git refuses this folder: another user owns it (dubious ownership).';
  const why = 'No command of git works here, nor the editor’s source control.';
  return [fault(what, why, `git config --global --add safe.directory ${quote(root)}`)];
}

function checkPackages() {
  if (!existsSync(join(root, 'node_modules/.package-lock.json'))) return 'none are installed here';
  const wanted = parse(read('package-lock.json'))?.packages;
  const installed = parse(read('node_modules/.package-lock.json'))?.packages;
  if (!wanted || !installed) return 'there is no lock file';
  const names = Object.keys({ ...wanted, ...installed }).filter((name) => name !== '');
  const different = names.filter((name) => {
    const [lock, here] = [wanted[name], installed[name]];
    if (!here) return !lock.optional && !lock.devOptional && !lock.peer; // another platform's packages are left out
    return lock?.version !== here.version;
  });
  if (different.length === 0) return [];
  const examples = different.slice(0, 3).map((name) => name.replace(/^.*node_modules\//, ''));
  const what = `node_modules is not what package-lock.json says: ${different.length} differ (${examples.join(', ')}).`;
  const why = 'What you run and test is not what the pipeline tests and the image has.';
  return [warning(what, why, inDevContainer ? '.devcontainer/install' : 'npm ci')];
}

// ---- What the app and the pipeline need

/** Asks Redis as the app does: logs in, and asks for each command and key of redis.acl whether it may. */
async function checkRedis() {
  if (!process.env.REDIS_URL) return 'REDIS_URL is not set';
  const url = redisUrl();
  if (!url) {
    const mend = 'REDIS_URL=redis://[[user]:password@]host[:port][/database], or rediss:// for TLS';
    return [fault('REDIS_URL is no address of Redis.', 'The app does not start with it.', mend)];
  }
  const where = `${url.hostname}:${url.port || 6379}`;
  const why = 'The app answers 503 until it can use Redis.';
  if (password() === undefined) {
    const mend = 'set REDIS_PASSWORD_FILE to a file that has the password, or REDIS_PASSWORD to the password';
    return [fault('The file that REDIS_PASSWORD_FILE names cannot be read.', why, mend)];
  }
  const isComposes = url.hostname === 'redis';
  let redis;
  try {
    redis = await connectRedis(url);
  } catch (error) {
    const mend = isComposes
      ? 'on the host: docker compose up --detach --wait redis'
      : `redis-cli -u "$REDIS_URL" ping`;
    return [fault(`Redis at ${where} cannot be reached: ${error.code ?? error.message}.`, why, mend)];
  }
  const refusal = await logIn(redis, url, password());
  const user = decodeURIComponent(url.username) || 'default';
  if (refusal) {
    const mend = isComposes
      ? 'on the host: docker compose restart redis'
      : `set another REDIS_URL, and try it: redis-cli -u "$REDIS_URL" ping`;
    return [fault(`Redis at ${where} refuses the user ${user}: ${refusal}.`, why, mend)];
  }
  const rules = neededRights();
  const { missing, unknowns, refused } = await askForRights(redis, rules);
  if (refused) {
    const what = `What the user ${user} of Redis may do could not be checked: ${refused}.`;
    const mend = 'as an administrator, compare `redis-cli ACL LIST` with src/app/redis.acl';
    return [unknown(what, 'Redis tells it from version 7 on, to a user who may EVAL.', mend)];
  }
  const findings = unknowns.map(unknownCommand);
  if (missing.length === 0) return findings;
  const what = `The user ${user} of Redis at ${where} may not what src/app/redis.acl names: ${missing.join(', ')}.`;
  const administrator = `redis-cli -h ${url.hostname} -p ${url.port || 6379} --user <administrator> --askpass`;
  const mend = isComposes
    ? 'on the host: docker compose up --build --detach --wait redis'
    : `${administrator} ACL SETUSER ${user} ${rules.all.map(quote).join(' ')}`;
  return [fault(what, 'Requests that need it are answered 503.', mend), ...findings];
}

function redisUrl() {
  try {
    const url = new URL(process.env.REDIS_URL);
    return /^rediss?:$/.test(url.protocol) && url.hostname ? url : undefined;
  } catch {
    return undefined;
  }
}

/** A connection on which a command is answered by one line, as all are that are sent here. */
async function connectRedis(url) {
  const address = { host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 6379) };
  const secure = url.protocol === 'rediss:';
  const socket = secure ? connectTls(address) : connect(address);
  const signal = AbortSignal.timeout(2000);
  await once(socket, secure ? 'secureConnect' : 'connect', { signal }).catch((error) => {
    throw error.name === 'AbortError' ? new Error('no answer within 2 s') : error;
  });
  return async (...words) => {
    const encoded = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
    socket.write(`*${words.length}\r\n${encoded.join('')}`);
    let line = '';
    while (!line.endsWith('\r\n')) {
      const [chunk] = await once(socket, 'data', { signal: AbortSignal.timeout(2000) });
      line += chunk;
    }
    return line.trim();
  };
}

/** Where the app takes it from, too: a variable, a file, the URL. */
function password() {
  const { REDIS_PASSWORD, REDIS_PASSWORD_FILE } = process.env;
  if (REDIS_PASSWORD) return REDIS_PASSWORD;
  if (REDIS_PASSWORD_FILE) return read(resolve(REDIS_PASSWORD_FILE))?.replace(/\n+$/, '');
  return decodeURIComponent(redisUrl().password);
}

/** Returns what Redis says against it, if it does. */
async function logIn(redis, { username, pathname }, password) {
  const commands = [['PING']];
  if (/^\/[1-9]/.test(pathname)) commands.unshift(['SELECT', pathname.slice(1)]);
  if (password) commands.unshift(['AUTH', decodeURIComponent(username) || 'default', password]);
  for (const command of commands) {
    const answer = await redis(...command).catch(() => '-no answer within 2 s');
    const isLackOfRight = answer.startsWith('-NOPERM') && command[0] === 'PING'; // told with the other rights
    if (answer.startsWith('-') && !isLackOfRight) return answer.slice(1).replace(/\.$/, '');
  }
  return undefined;
}

/** Of the rules in redis.acl: keys as in `~name:*`, commands as in `+get` and `+client|setinfo`; not categories. */
function neededRights() {
  const all = (read('src/app/redis.acl') ?? '')
    .replace(/^\s*#.*/gm, '')
    .split(/\s+/)
    .filter(Boolean);
  const keys = all.filter((word) => word.startsWith('~')).map((word) => word.slice(1));
  const commands = all.filter((word) => /^\+[^@]/.test(word)).map((word) => word.slice(1).split('|'));
  return { all, keys: keys.length > 0 ? keys : ['*'], commands };
}

/**
 * Redis tells a script what its user may do: no command is run, no data is changed, and the right to EVAL suffices.
 * (ACL DRYRUN would need the right to administer users.)
 */
async function askForRights(redis, { keys, commands }) {
  const missing = [];
  const unknowns = [];
  for (const command of commands) {
    const name = command.join(' ');
    const answers = [];
    for (const key of keys) answers.push(await mayRun(redis, command, key.replaceAll('*', 'x')));
    const refused = answers.find((answer) => answer.startsWith('-'));
    const denied = keys.filter((_, index) => answers[index] === ':0');
    if (refused?.startsWith('-NOPERM') && commands.some(([first]) => first === 'eval'))
      return { missing: ['eval'], unknowns };
    if (refused?.includes('Invalid command')) unknowns.push(name);
    else if (refused) return { refused: refused.slice(1) };
    else if (denied.length === keys.length) missing.push(name);
    else missing.push(...denied.map((key) => `${name} on ${key}`));
  }
  return { missing, unknowns };
}

/**
 * The key stands in every place of the command: one of them is where the command has its key. How many words a command
 * takes is found by trying, the most first: with too few, Redis 7.0 reads past the end of the command and crashes.
 */
async function mayRun(redis, command, key) {
  const script = 'return redis.acl_check_cmd(unpack(ARGV)) and 1 or 0';
  for (let words = 8; ; words--) {
    const answer = await redis('EVAL', script, '0', ...command, ...Array(words).fill(key));
    if (!answer.includes('Wrong number of args') || words === 0) return answer;
  }
}

function unknownCommand(command) {
  const what = `Redis does not know the command ${command}, which src/app/redis.acl names.`;
  const why = 'It is older than the Redis that the app is tested with.';
  return warning(what, why, 'run the version of Redis that docker-compose.yml names');
}

async function checkAct() {
  const why = '`npm run ci` runs the pipeline on this machine by it.';
  const named = process.env.ACT_BINARY;
  if (named) {
    if ((await run(named, ['--version'])).ok) return [];
    return [
      warning('ACT_BINARY names nothing that can be executed.', why, 'unset ACT_BINARY, then npm run tools'),
    ];
  }
  const { ok, stderr } = await run('.github/tools.sh', ['--find']);
  if (ok) return [];
  if (!stderr.startsWith('tools: ')) return 'cannot be looked for without bash';
  return [
    warning(
      'act and the linters are missing, or not in the versions that are named here.',
      why,
      'npm run tools',
    ),
  ];
}

// ---- Tools

/** Runs a command in the repository, for as long as a command may take. Never rejects. */
function run(command, args) {
  const options = { cwd: root, timeout: commandLimit, killSignal: 'SIGKILL', windowsHide: true };
  return new Promise((resolve) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      const late = error?.killed === true;
      resolve({ ok: !error, missing: error?.code === 'ENOENT', late, stdout, stderr });
    });
  });
}

/** What docker tells of itself and of its engine: asked once, whichever check comes first. */
async function docker() {
  docker.answer ??= (async () => {
    const began = Date.now();
    const answer = await run('docker', ['info', '--format', '{{json .}}']);
    return { ...answer, info: parse(answer.stdout) ?? {}, began, ended: Date.now() };
  })();
  return docker.answer;
}

/** The running containers; none where the engine cannot be asked. */
async function containers() {
  const label = (name) => `{{.Label "${name}"}}`;
  const compose = ['project', 'project.working_dir', 'service', 'project.config_files'];
  const fields = [
    '{{.ID}}',
    '{{.Names}}',
    '{{.Ports}}',
    '{{.CreatedAt}}',
    label('devcontainer.local_folder'),
  ];
  fields.push(...compose.map((name) => label(`com.docker.compose.${name}`)));
  containers.answer ??= run('docker', ['ps', '--no-trunc', '--format', fields.join('\t')]);
  const { stdout } = await containers.answer;
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [id, name, ports, createdAt, devContainerOf, project, folder, service, files] = line.split('\t');
      const created = Date.parse(createdAt.replace(/ [A-Z]+$/, '')); // 2026-01-31 23:59:00 +0000 UTC
      return { id, name, ports, created, devContainerOf, project, folder, service, files };
    });
}

/** What the promise gives; undefined if that takes longer. */
function within(milliseconds, promise) {
  return Promise.race([promise, delay(milliseconds)]);
}

function isAtLeast(version, [major, minor]) {
  const [, a, b] = /(\d+)\.(\d+)/.exec(version) ?? [0, 0, 0];
  return Number(a) > major || (Number(a) === major && Number(b) >= minor);
}

/** The text of a file, of the repository or by its full path; undefined if it cannot be read. */
function read(path) {
  try {
    return readFileSync(resolve(root, path), 'utf8');
  } catch {
    return undefined;
  }
}

function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

/** For a command line. */
function quote(word) {
  return /^[\w./:@+-]+$/.test(word) ? word : `'${word}'`;
}
