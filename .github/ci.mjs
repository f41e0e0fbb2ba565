#!/usr/bin/env node
// `npm run ci [-- push | pull_request | tag vX.Y.Z] [act's options]`: the workflow as it stands, on this machine, by
// act. It pushes to $REGISTRY, or to one that is started here and gone afterwards.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';

// A developer's shell may carry settings of the app, npm gives its scripts its own, and a runner that runs this has
// another event's: the jobs get none of them.
const foreign =
  /^(npm_|GITHUB_|RUNNER_|ACTIONS_|INIT_CWD$|LISTEN$|WEB_CONCURRENCY$|WORKER_TIMEOUT$|GRACEFUL_TIMEOUT$|MAX_REQUESTS|REDIS_|LOG_LEVEL$|RELOAD$|COMPOSE_|PORT$|(APP|NGINX)_IMAGE$)/;

const [event = 'push', ...rest] = process.argv.slice(2);
const version = event === 'tag' ? rest.shift() : undefined;
if (!['push', 'pull_request', 'tag'].includes(event) || (event === 'tag' && !/^v\d/.test(version ?? ''))) {
  fail('usage: npm run ci [-- push | pull_request | tag vX.Y.Z] [options of act]');
}

const act = process.env.ACT_BINARY || findAct();
if (spawnSync(act, ['--version']).status !== 0) fail(`ACT_BINARY is ${act}, which cannot be executed`);
if (spawnSync('jq', ['--version']).status !== 0) fail('jq is missing: https://jqlang.org/download');
process.on('uncaughtException', (error) => fail(error.message));
const arch = docker('version', '--format', '{{.Server.Arch}}');

const run = `ci-${process.pid}-${Date.now().toString(36)}`; // names everything that this run makes
const folder = mkdtempSync(join(tmpdir(), `${run}-`));
let running;
let ownRegistry;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => running?.kill('SIGINT')); // act then ends its jobs, and what follows below cleans up
}
process.stdout.on('error', () => running?.kill('SIGINT')); // nobody reads on: the same

let ok = false;
try {
  if (!process.env.REGISTRY) ownRegistry = startRegistry();
  const registry = process.env.REGISTRY || ownRegistry;
  // A tag gives names to what a push has tested: a registry that was empty needs the push first.
  const events = event === 'tag' && !process.env.REGISTRY ? ['push', 'tag'] : [event];
  ok = true;
  for (const each of events) ok &&= await runEvent(each, registry);
} finally {
  cleanUp();
}
process.exit(ok ? 0 : 1);

/** One event through act. Prints how long each job took, and promises whether all went well. */
async function runEvent(event, registry) {
  const payload = {
    push: { ref: 'refs/heads/main' },
    pull_request: { number: 1, pull_request: { number: 1, head: { ref: 'branch' }, base: { ref: 'main' } } },
    tag: { ref: `refs/tags/${version}` },
  }[event];
  const file = join(folder, `${event}.json`);
  writeFileSync(file, JSON.stringify(payload));
  const options = [
    ...['--eventpath', file, '--action-cache-path', join(folder, 'act')],
    ...['--matrix', `arch:${arch}`, '--env', `ARCHES=${arch}`], // one machine has one architecture
    ...['--env', `COMPOSE_PROJECT_NAME=${run}`], // not the stack that the developer has open
    ...['--var', `REGISTRY=${registry}`],
    ...['--env', `GITHUB_REPOSITORY=${repositoryName()}`],
  ];
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));
  const began = Date.now();
  running = spawn(act, [event === 'tag' ? 'push' : event, ...options, ...rest], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true, // Ctrl-C reaches act once, from above
  });
  const jobs = new Map();
  for await (const line of createInterface({ input: running.stdout })) {
    console.log(line);
    const [, job, what] = /^\[\w+\/(.+?)\s*\]\s+(.*)/.exec(line) ?? [];
    if (what?.endsWith('Run Set up job')) jobs.set(job, { began: Date.now() });
    const [, result] = /Job (succeeded|failed)/.exec(what ?? '') ?? [];
    if (result) Object.assign(jobs.get(job) ?? {}, { result, ended: Date.now() });
  }
  const code = running.exitCode ?? (await new Promise((resolve) => running.once('close', resolve)));
  console.log(`\n${event}: ${code === 0 ? 'green' : 'failed'} after ${seconds(Date.now() - began)}`);
  for (const [job, { began, ended = Date.now(), result = 'cut off' }] of jobs) {
    console.log(`  ${seconds(ended - began)}  ${job} ${result}`);
  }
  if (event === 'push') console.log("  not run here: attest, which needs GitHub's identity (OIDC)");
  return code === 0;
}

function findAct() {
  const { status, stdout } = spawnSync(join(import.meta.dirname, 'tools.sh'), ['--find'], {
    encoding: 'utf8',
  });
  return status === 0 ? join(stdout.trim(), 'act') : fail('act is missing: npm run tools, or set ACT_BINARY');
}

/**
 * What the images are called: owner/name, as the origin's URL says, in whatever depth its host has. An origin that is a
 * folder, or none at all, names no owner. A name's parts are letters and digits with single separators between them.
 */
function repositoryName() {
  const { stdout } = spawnSync('git', ['remote', 'get-url', 'origin'], { encoding: 'utf8' });
  const origin = stdout.trim().replace(/(\.git)?\/*$/, '');
  const [, path] = /^(?!file:)(?:\w+:\/\/[^/]+\/|[^/]+:)(.+)$/.exec(origin) ?? [];
  const parts = (path ?? basename(origin || process.cwd()))
    .split('/')
    .map((part) =>
      part.replace(/[^A-Za-z0-9]*[^\w.-]+[^A-Za-z0-9]*|[._-]{2,}/g, '-').replace(/^\W+|\W+$|^_+|_+$/g, ''),
    )
    .filter(Boolean);
  return (parts.length > 1 ? parts : ['local', ...parts]).join('/');
}

function startRegistry() {
  docker('run', '--detach', '--name', `${run}-registry`, '--publish', '127.0.0.1::5000', 'registry:2');
  const port = /\d+$/.exec(docker('port', `${run}-registry`, '5000/tcp').split('\n')[0])[0];
  return `localhost:${port}`; // plain HTTP is spoken to localhost alone
}

/** Whatever state the jobs were left in. What the engine has cached of the builds stays. */
function cleanUp() {
  const list = (...args) =>
    docker(...args)
      .split('\n')
      .filter(Boolean);
  const remove = (kind, names) => {
    try {
      if (names.length > 0) docker(...kind, ...names);
    } catch (error) {
      console.error(`ci: ${error.message}`); // and go on with the rest
    }
  };
  const ours = `label=com.docker.compose.project=${run}`;
  remove(['rm', '--force', '--volumes'], list('ps', '--all', '--quiet', '--filter', ours));
  remove(
    ['rm', '--force', '--volumes'],
    list('ps', '--all', '--quiet', '--filter', `name=^${run}-registry$`),
  );
  const opened = list('ps', '--all', '--format', '{{.ID}} {{.Label "devcontainer.local_folder"}}')
    .map((line) => line.split(' '))
    .filter(([, path]) => path?.startsWith(folder));
  remove(
    ['rm', '--force', '--volumes'],
    opened.map(([id]) => id),
  );
  remove(['network', 'rm'], list('network', 'ls', '--quiet', '--filter', ours));
  remove(['volume', 'rm', '--force'], list('volume', 'ls', '--quiet', '--filter', ours));
  const candidates = `${process.env.REGISTRY}/${repositoryName().toLowerCase()}/candidate`;
  const images = list('image', 'ls', '--digests', '--format', '{{.Repository}} {{.Tag}} {{.Digest}}').flatMap(
    (line) => {
      const [name, tag, digest] = line.split(' ');
      const own =
        line.includes(run) ||
        name.startsWith('vsc-hostexecutor-') ||
        name.startsWith(`${ownRegistry}/`) ||
        name === candidates;
      return own ? [tag === '<none>' ? `${name}@${digest}` : `${name}:${tag}`] : [];
    },
  );
  remove(['image', 'rm'], images);
  rmSync(folder, { recursive: true, force: true });
}

function docker(...args) {
  try {
    return execFileSync('docker', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();
  } catch (error) {
    if (error.code === 'ENOENT')
      throw new Error('docker is missing: https://docs.docker.com/engine/install/');
    throw new Error(`docker ${args.join(' ')}: ${error.stderr}`);
  }
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(1).padStart(6)} s`;
}

function fail(message) {
  console.error(`ci: ${message}`);
  process.exit(1);
}
