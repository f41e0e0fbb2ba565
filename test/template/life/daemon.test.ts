/**
 * What needs a Docker daemon of its own: restarted under load, as an upgrade of Docker does it, or with another image store.
 * It has a network of its own, since two daemons in one delete each other's bridge.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { cloneRepository, prepareStack, removeAll, type Stack } from '../../containers/engine.ts';
import { createTrial } from '../../support/battery/harness.ts';
import { countFailed } from '../../support/load.ts';
import { atEnd, type Running, startProcess, temporaryDirectory } from '../../support/processes.ts';
import { request } from '../../support/requests.ts';
import { delay, waitFor } from '../../support/wait.ts';

const minute = 60_000;
const testAsRoot = process.getuid?.() === 0 ? test : test.skip;

afterAll(removeAll, 2 * minute);

/** Carries a unix socket's connections to a port of another network. */
const proxy = `const net = require('node:net');
net.createServer((near) => {
  const far = net.connect(Number(process.argv[1]), '127.0.0.1');
  for (const socket of [near, far]) socket.on('error', () => {}).on('close', () => { near.destroy(); far.destroy(); });
  near.pipe(far).pipe(near);
}).listen(process.argv[2]);`;

interface Daemon {
  host: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Runs a command in the daemon's network until the end of the test. */
  run(...command: string[]): Running;
}

function prepareDaemon(configuration: object = {}): Daemon {
  const folder = temporaryDirectory();
  const host = `unix://${folder}/docker.sock`;
  const network = startProcess('unshare', ['--net', 'sh', '-c', 'ip link set lo up && exec sleep infinity']);
  atEnd(() => network.kill('SIGKILL'));
  const enter = ['--target', String(network.pid), '--net'];
  const file = join(folder, 'daemon.json');
  writeFileSync(file, JSON.stringify(configuration));
  const paths = [
    ...['--config-file', file, '--data-root', `${folder}/data`],
    ...['--exec-root', `${folder}/run`, '--pidfile', `${folder}/pid`],
  ];
  let dockerd: Running | undefined;
  async function stop(): Promise<void> {
    dockerd?.kill('SIGTERM');
    await dockerd?.exited;
    dockerd = undefined;
  }
  atEnd(stop);
  return {
    host,
    stop,
    async start() {
      dockerd = startProcess('nsenter', [...enter, 'dockerd', ...paths, '--host', host]);
      const { output } = dockerd;
      const answers = () => execFileSync('docker', ['--host', host, 'info'], { stdio: 'pipe' });
      await waitFor(answers, 'the daemon').catch((cause) => {
        throw new Error(output(), { cause });
      });
    },
    run(...command) {
      const running = startProcess('nsenter', [...enter, ...command]);
      atEnd(() => running.kill('SIGKILL'));
      return running;
    },
  };
}

/** The stack on that daemon, with the images that the machine's own one has built. */
async function startOn(daemon: Daemon): Promise<Stack> {
  const stack = await prepareStack(cloneRepository('Daemon'));
  await stack.compose(['build']);
  const images = ['app', 'nginx', 'redis'].map(stack.image).join(' ');
  execFileSync('sh', ['-c', `docker save ${images} | docker --host ${daemon.host} load`], { stdio: 'pipe' });
  const there = { DOCKER_HOST: daemon.host };
  atEnd(() => stack.compose(['down', '--volumes', '--timeout', '1'], there));
  await stack.compose(['up', '--detach', '--wait', '--no-build'], there);
  return stack;
}

testAsRoot(
  'with the containerd image store a build that changes nothing leaves the container, by the setting of docs/settings.md',
  async () => {
    const daemon = prepareDaemon({ features: { 'containerd-snapshotter': true } });
    await daemon.start();
    execFileSync('sh', ['-c', `docker save redis:8 | docker --host ${daemon.host} load`], { stdio: 'pipe' });
    const stack = await prepareStack(cloneRepository('Store'));
    const there = { DOCKER_HOST: daemon.host };
    atEnd(() => stack.compose(['down', '--volumes', '--timeout', '1'], there));
    async function up(setting: NodeJS.ProcessEnv): Promise<string> {
      await stack.compose(['up', '--detach', '--build', 'redis'], { ...there, ...setting });
      return stack.compose(['ps', '--quiet', 'redis'], there);
    }
    const setting = { BUILDX_NO_DEFAULT_ATTESTATIONS: '1' };
    const first = await up(setting);
    expect(await up(setting)).toBe(first);
    const second = await up({});
    expect(await up({})).not.toBe(second); // once this is no longer so, the setting may go
  },
  5 * minute,
);

testAsRoot(
  'dockerd restarted under load: all is served again by itself, and no request took effect twice',
  async () => {
    const daemon = prepareDaemon();
    await daemon.start();
    const stack = await startOn(daemon);
    const socketPath = join(temporaryDirectory(), 'nginx.sock');
    daemon.run(process.execPath, '-e', proxy, String(stack.address.port), socketPath);
    await waitFor(() => request({ socketPath }, '/livez'), 'an answer');

    const trial = createTrial({ socketPath });
    const load = trial.startLoad({ busy: 4, pausing: 0, pause: 40 });
    await load.waitForAnswers(100);
    const begin = performance.now();
    await daemon.stop();
    await daemon.start();
    await load.waitForAnswers(100);
    const seconds = (performance.now() - begin) / 1000;
    await delay(2_000);
    const failures = countFailed(await load.look());
    await load.waitForAnswers(100);
    const report = await load.stop();
    const verdict = await trial.judge();
    const { sent, refused, failed } = report;
    process.stdout.write(
      `dockerd restarted: away for ${seconds.toFixed(1)} s; ${JSON.stringify({ sent, refused, failed, ...verdict })}\n`,
    );
    expect(failures).toBeGreaterThan(0); // while it was away nobody listened
    expect(countFailed(report)).toBe(failures);
    expect(verdict.wrong).toEqual([]);
    expect(verdict.unacknowledged).toBeLessThanOrEqual(4);
  },
  10 * minute,
);
