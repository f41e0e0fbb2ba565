// deploy/deploy as it is typed at a prompt: over SSH, from a registry, under load. The tests are one story, in this order.
import { execFileSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import {
  adoptProject,
  attempt,
  cloneRepository,
  docker,
  execute,
  inspect,
  longestGap,
  prepare,
  type Result,
  removeAll,
} from '../containers/engine.ts';
import { type Registry, startRegistry } from '../pipeline/registry.ts';
import { createTrial, type Trial } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { now } from '../support/load.ts';
import { atEnd, temporaryDirectory } from '../support/processes.ts';
import { freePort } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';
import { createPublisher } from './publisher.ts';
import { type Server, startServer } from './server.ts';

const services = ['redis', 'app', 'nginx'] as const;
type Service = (typeof services)[number];

const project = `service-${Math.random().toString(36).slice(2, 8)}`;
const repository = `some-owner/${project}`;
const names = { app: repository, nginx: `${repository}/nginx`, redis: `${repository}/redis` };

let registry: Registry;
let server: Server;
let trial: Trial;
let directory: string;
let environment: NodeJS.ProcessEnv;
let commit: () => string;
let publish: ReturnType<typeof createPublisher<Service>>['publish'];
let row = 0;

prepare(async () => {
  registry = startRegistry();
  atEnd(() => registry.stop());
  server = await startServer();
  atEnd(() => rmSync(join(server.home, `.${project}.deploying`), { force: true }));
  adoptProject(project);
  directory = cloneRepository('Deploy');
  ({ commit, publish } = createPublisher({
    ...{ directory, registry, address: registry.address, names },
    images: { app: `${project}-app`, nginx: `${project}-nginx`, redis: `${project}-redis` },
  }));
  const port = await freePort();
  trial = createTrial({ port });
  environment = {
    REGISTRY: registry.address,
    GITHUB_REPOSITORY: repository,
    UNSIGNED: 'true',
    SSH_KEY: pasted(server.key),
    KNOWN_HOSTS: pasted(server.knownHosts),
    DASHBOARD: 'of a shell',
    SETTINGS: pasted(`PORT=${port}\nWEB_CONCURRENCY=1\n`),
  };
  writeFileSync(join(directory, '.env'), 'LOG_LEVEL=of a developer\n'); // with which the app would not start
  await execute('docker', ['compose', 'build'], { cwd: directory, env: { COMPOSE_PROJECT_NAME: project } });
  for (const service of services) atEnd(() => attempt('docker', ['image', 'rm', `${project}-${service}`]));
});
afterAll(removeAll, 120_000);

/** As it comes from Windows. */
const pasted = (text: string) => text.replaceAll('\n', '\r\n');

function succeeded({ code, output }: Result): void {
  if (code !== 0) throw new Error(`exit code ${code}:\n${output}`);
}

const deploy = (args: string[] = [], env: NodeJS.ProcessEnv = {}) =>
  attempt('deploy/deploy', [server.target, ...args], { cwd: directory, env: { ...environment, ...env } });

/** The containers of a service. */
async function idsOf(service: Service): Promise<string[]> {
  const filters = ['project', 'service'].flatMap((kind, i) => [
    '--filter',
    `label=com.docker.compose.${kind}=${[project, service][i]}`,
  ]);
  return (await docker('ps', '--quiet', ...filters)).split('\n').filter(Boolean);
}

/** What runs of a service: the reference of each container. */
const running = async (service: Service) =>
  Promise.all((await idsOf(service)).map((id) => inspect(id, '.Config.Image')));

async function expectRunning(IMAGES: string, kept: Partial<Record<Service, string>> = {}): Promise<void> {
  for (const service of services)
    expect([service, await running(service)]).toEqual([
      service,
      [(JSON.parse(kept[service] ?? IMAGES) as Record<string, string>)[service]],
    ]);
}

/** Something that is done under load, and its row of the table. `gap`: requests may fail for a moment. */
async function underLoad<T extends Result | Result[]>(
  what: string,
  act: () => Promise<T>,
  gap = false,
): Promise<T> {
  const load = trial.startLoad({ rate: 100, busy: 10, pausing: 20 });
  await waitFor(async () => (await load.look()).ok > 50, 'the load to run', 30_000);
  const begin = now();
  const result = await act();
  const seconds = (now() - begin) / 1000;
  const report = await load.stop();
  const judged = now();
  const verdict = await trial.judge();
  trial.add({ begin: judged, end: now(), error: 'of the judge, who does not keep it' });
  const codes = [result].flat().map(({ code }) => code);
  const longest = gap ? `; ${longestGap(report.history).toFixed(0)} ms without an answer` : '';
  addRow({
    row: `${++row}`,
    fault: what,
    load: report,
    verdict,
    seen: `exit code ${codes.join(', ')} after ${seconds.toFixed(0)} s${longest}`,
  });
  const said = [result].flat().map(({ output }) => output);
  if (!gap) expect({ ...report.failed, refused: report.refused, said }).toEqual({ refused: 0, said });
  expect(verdict.wrong).toEqual([]);
  return result;
}

/** The images that run. Of those of one commit, each that is the same as before was not replaced. */
let current: string;
/** All images of the commit that runs. */
let published: string;
const shas: string[] = [];

test('the first one starts what was published, under a name of its own', async () => {
  shas.push(commit());
  current = await publish('1.0.0', shas[0] ?? '');
  const begin = now();
  const { code, output } = await deploy([], { IMAGES: current });
  addRow({
    row: `${++row}`,
    fault: 'first one',
    seen: `exit code ${code} after ${((now() - begin) / 1000).toFixed(0)} s`,
  });
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining(': deployed') });
  await expectRunning(current);
});

test('the next one fails no request; images that differ in label and time alone are not replaced', async () => {
  shas.push(commit());
  const next = await publish('1.1.0', shas[1] ?? '');
  const { code, output } = await underLoad('next one', () => deploy([], { IMAGES: next }));
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining(JSON.parse(next).app) });
  expect(output).toContain(JSON.parse(current).app); // before
  await expectRunning(next, { nginx: current, redis: current });
  current = JSON.stringify({ ...JSON.parse(current), app: JSON.parse(next).app });
  published = next;
});

/** Nothing else than before runs after this has failed; resolves to what it has said. */
async function expectRefused(attempted: Promise<Result>): Promise<string> {
  const { code, output } = await attempted;
  expect({ code, output }).toEqual({ code: 1, output });
  await expectRunning(current);
  return output;
}

test('an image that cannot reach what it needs is taken back, and costs no request', async () => {
  const start = 'REDIS_URL=redis://app@nowhere exec node dist/main.js';
  const IMAGES = await publish('unreachable', commit(), { app: `CMD ["sh", "-c", "${start}"]` });
  const tried = underLoad('Redis unreachable', () => deploy([], { IMAGES, TIMEOUT: '8' }));
  const output = await expectRefused(tried);
  expect(output).toContain('back to the old one');
  expect(output).toContain(': failed, and taken back');
});

test('an image whose health check says nothing is found out, and taken back', async () => {
  const lines = 'CMD ["sleep", "600"]\nHEALTHCHECK --interval=1s CMD ["true"]';
  const IMAGES = await publish('mute', commit(), { app: lines });
  const { code, output } = await underLoad('no health check', () => deploy([], { IMAGES }), true);
  expect({ code, output }).toEqual({ code: 1, output: expect.stringContaining('deploy: it is not ready') });
  expect(output).toContain(': failed, and taken back');
  await expectRunning(current);
});

test('a commit that is older than the running one is refused', async () => {
  const IMAGES = await publish('older', shas[0] ?? '', { app: 'LABEL another=build' });
  const output = await expectRefused(deploy([], { IMAGES }));
  expect(output).toContain(`${shas[0]} is older than ${shas[1]}`);
});

test('where the registry or the signatures do not answer, nothing is changed', async () => {
  const next = await publish('unsigned', commit());
  const missing = next.replace(/@sha256:.{8}/g, '@sha256:00000000');
  await expectRefused(deploy([], { IMAGES: missing }));
  const unsigned = { IMAGES: next, UNSIGNED: '', PATH: withStandIn('gh', 'exit 1') };
  expect(await expectRefused(deploy([], unsigned))).toContain('has no signature');
});

/** PATH with a stand-in for a command before the true one. */
function withStandIn(command: string, script: string): string {
  const bin = temporaryDirectory();
  writeFileSync(join(bin, command), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return `${bin}:${process.env.PATH}`;
}

/** The volume with secrets of what runs, and its files as the app sees them. */
async function secrets(): Promise<{ volume: string; files: string }> {
  const [id = ''] = await idsOf('app');
  const mounts = await inspect<{ Destination: string; Name: string }[]>(id, '.Mounts');
  const volume = String(mounts.find(({ Destination }) => Destination === '/run/secrets')?.Name);
  return { volume, files: await docker('exec', id, 'sh', '-c', 'cd /run/secrets && head -v -c 99 *') };
}

test('a secret alone rolls the app over; it is in a file that the app alone sees, and shows nowhere else', async () => {
  const before = await idsOf('app');
  const given = { IMAGES: published, SECRETS: pasted('API_KEY=s3cr3t=#$HOME"x\n\nOTHER=s3cr3t too') };
  const { code, output } = await underLoad('changed secret', () => deploy([], given));
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining(': deployed') });
  expect(await idsOf('app')).not.toEqual(before);
  const first = await secrets();
  expect(first.files).toBe('==> API_KEY <==\ns3cr3t=#$HOME"x\n==> OTHER <==\ns3cr3t too');
  for (const service of services) {
    const [id = ''] = await idsOf(service);
    const shown = await docker('inspect', id, await inspect(id, '.Image'));
    const logs = await docker('logs', id);
    expect(output + shown + logs + (await docker('top', id))).not.toContain('s3cr3t');
    if (service !== 'app')
      expect((await attempt('docker', ['exec', id, 'ls', '/run/secrets'])).code).not.toBe(0);
  }
  const left = 'grep -rls s3cr3t /tmp/deploy.* || true';
  expect(execFileSync('sh', ['-c', left], { encoding: 'utf8' })).toBe('');

  // The same again is the same; without any they stay; those of a deployment that fails are gone with it.
  succeeded(await deploy([], given));
  expect(await secrets()).toEqual(first);
  succeeded(await deploy([], { IMAGES: published }));
  expect(await secrets()).toEqual(first);
  const broken = await publish('broken-with-secrets', commit(), { app: 'CMD ["false"]' });
  const failed = await deploy([], { IMAGES: broken, SECRETS: 'API_KEY=changed', TIMEOUT: '8' });
  expect(failed).toMatchObject({ code: 1, output: expect.stringContaining(': failed, and taken back') });
  expect(await secrets()).toEqual(first);
  succeeded(await deploy([], { IMAGES: published, SECRETS: 'API_KEY=changed' }));
  expect((await secrets()).files).toBe('==> API_KEY <==\nchanged');
  const label = `label=com.docker.compose.project=${project}`;
  const volumes = await docker('volume', 'ls', '--quiet', '--filter', label, '--filter', 'name=secrets');
  expect(volumes).toBe((await secrets()).volume);
}, 360_000);

test('a port that is taken is no reason to say that what runs was not taken back', async () => {
  const taken = { SETTINGS: `PORT=${new URL(`http://${registry.address}`).port}` };
  const { code, output } = await underLoad(
    'port that is taken',
    () => deploy([], { ...taken, IMAGES: published }),
    true,
  );
  expect({ code, output }).toEqual({ code: 1, output: expect.stringContaining(': failed, and taken back') });
  await expectRunning(current);
});

test('a setting that cannot be right, and an engine that is too old, are named before anything is changed', async () => {
  const IMAGES = await publish('settings', commit());
  const old = `case $1 in version) echo 1.41 ;; *) exec ${execFileSync('which', ['docker'], { encoding: 'utf8' }).trim()} "$@" ;; esac`;
  for (const [env, message] of [
    [{ SETTINGS: 'PORT=80\n\nPORT: 8080' }, 'SETTINGS: line 3 is not NAME=VALUE'],
    [{ SETTINGS: 'PORT=http' }, 'Nothing was changed'],
    [{ SETTINGS: 'LOG_LEVEL="info"' }, 'SETTINGS: LOG_LEVEL is in quotes'],
    [{ SECRETS: 'API_KEY=s3cr3t \n' }, 'SECRETS: API_KEY begins or ends with a space'],
    [{ SECRETS: 'A=1\ns3cr3t' }, 'SECRETS: line 2 is not NAME=VALUE'],
    [{ SSH_KEY: 's3cr3t' }, 'SSH_KEY is no private key without a passphrase'],
    [{ KNOWN_HOSTS: 'other.example ssh-ed25519 AAAA' }, 'KNOWN_HOSTS has no key of [127.0.0.1]:'],
    [{ PROJECT: 'My project' }, "PROJECT must be lower-case letters, digits, - and _, and is 'My project'"],
    [{ PATH: withStandIn('docker', old) }, 'the engine there is too old: its API is 1.41'],
  ] as const) {
    const { code, output } = await deploy([], { ...env, IMAGES });
    expect({ code, output }).toEqual({ code: 1, output: expect.stringContaining(message) });
    expect(output).not.toContain('s3cr3t');
  }
  await expectRunning(current);
});

test('a version that is named goes back, without a failed request', async () => {
  succeeded(await underLoad('roll-back by version', () => deploy(['1.0.0'])));
  const [app] = await running('app');
  expect(app).toContain((await registry.tags(names.app))['1.0.0']);
  current = JSON.stringify({ ...JSON.parse(current), app });
});

test('of two at once one waits for the other', async () => {
  const [first, second] = [await publish('2.0.0', commit()), await publish('2.1.0', commit())];
  const results = await underLoad('two at once', () => Promise.all([deploy(['2.0.0']), deploy(['2.1.0'])]));
  expect(results.map(({ code, output }) => ({ code, output }))).toEqual(
    results.map(({ output }) => ({ code: 0, output })),
  );
  expect(results.filter(({ output }) => output.includes('waiting for another deployment'))).toHaveLength(1);
  const [app] = await running('app');
  expect([first, second].map((images) => JSON.parse(images).app)).toContain(app);
  current = JSON.stringify({ ...JSON.parse(current), app });
});

test.each<[string, string, () => void]>([
  ['cut', '3.0.0', () => server.cut()],
  // Its socket stays: a connection without the lock must not take its place.
  ['killed at this end', '3.1.0', () => process.kill(masterOf(server.target), 'SIGKILL')],
])(
  'a connection that is %s leaves a service that answers; run again, it is as if nothing had been',
  async (how, version, lose) => {
    const next = await publish(version, commit());
    const lost = await underLoad(`connection ${how}`, async () => {
      const result = deploy([version]);
      await waitFor(
        async () => (await running('app')).length === 2,
        'the new container beside the old one',
        60_000,
      );
      lose();
      return result;
    });
    expect(lost).toMatchObject({ code: 1, output: expect.stringContaining('the connection is lost') });
    succeeded(await underLoad('run again', () => deploy([version])));
    await expectRunning(next, { nginx: current, redis: current });
    current = JSON.stringify({ ...JSON.parse(current), app: JSON.parse(next).app });
  },
);

/** The process of the connection that holds the lock. */
const masterOf = (target: string) =>
  Number(execFileSync('pgrep', ['--full', `^ssh .*ControlMaster=yes .*${target}`], { encoding: 'utf8' }));

test('a new image of nginx has a gap, whose length is reported', async () => {
  const next = await publish('4.0.0', commit(), { nginx: 'ENV VERSION=4' });
  succeeded(await underLoad('new image of nginx', () => deploy(['4.0.0']), true));
  await expectRunning(next, { redis: current });
  current = JSON.stringify({ ...JSON.parse(next), redis: JSON.parse(current).redis });
});

test('an nginx that does not start is taken back, and so is what was deployed with it', async () => {
  const IMAGES = await publish('broken-nginx', commit(), { nginx: 'CMD ["false"]' });
  const output = await expectRefused(underLoad('broken image of nginx', () => deploy([], { IMAGES })));
  expect(output).toContain(': failed, and taken back');
});

test('without a target it says what to type', async () => {
  const { code, output } = await attempt('deploy/deploy', [], { cwd: directory, env: environment });
  addRow({ row: `${++row}`, fault: 'no target', seen: `exit code ${code}` });
  expect({ code, output }).toEqual({
    code: 1,
    output: expect.stringContaining('usage: deploy/deploy ssh://'),
  });
});
