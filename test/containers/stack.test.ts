import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { join } from 'node:path';
import { afterAll, expect } from '@jest/globals';
import { parse } from 'yaml';
import { expectExact, type Load, startLightLoad } from '../support/load.ts';
import { type Answer, request } from '../support/requests.ts';
import { delay, waitFor } from '../support/wait.ts';
import {
  attempt,
  cloneRepository,
  deriveImage,
  docker,
  inspect,
  longestGap,
  prepare,
  prepareStack,
  removeAll,
  type Stack,
  scenario,
} from './engine.ts';

const services = Object.keys(parse(readFileSync('docker-compose.yml', 'utf8'), { merge: true }).services);

let stack: Stack;
let clone: Stack;
prepare(async () => {
  stack = await prepareStack(cloneRepository('2048'));
  clone = await prepareStack(cloneRepository('A.Second.Clone'));
  await stack.up();
  for (const service of services) {
    clone.environment[`${service.toUpperCase()}_IMAGE`] = stack.image(service);
  }
  await clone.compose(['up', '--detach', '--wait', '--no-build']);
});
afterAll(removeAll, 120_000);

/** Answers go on. The aim is a gap of two seconds, which is printed. A busy machine may need several times as long. */
async function expectToGoOn(load: Load, what: string): Promise<void> {
  await waitFor(() => stack.ask(), 'an answer', 60_000);
  const gap = longestGap((await load.stop()).history);
  process.stdout.write(`${what}: ${gap.toFixed(0)} ms without an answer\n`);
  expect((await stack.judge()).wrong).toEqual([]);
  expect(gap).toBeLessThan(30_000);
}

// ------------------------------------------------------------------------------------------------ side by side

scenario('one command serves, and a second clone of another name serves beside it', async () => {
  for (const each of [stack, stack, clone, stack]) await each.ask();
  expect(await clone.judge()).toEqual({ wrong: [], unacknowledged: 0 });
  await clone.compose(['down', '--volumes']);
  expect(await stack.judge()).toEqual({ wrong: [], unacknowledged: 0 });
});

scenario('a file of proxies that is not there is an error, and nothing is made in its place', async () => {
  const { code, output } = await attempt('docker', ['compose', 'create', '--no-build', 'nginx'], {
    cwd: clone.directory,
    env: { ...clone.environment, PROXIES: './missing.conf' },
  });
  expect([code, output]).toEqual([1, expect.stringContaining('missing.conf')]);
  expect(existsSync(join(clone.directory, 'missing.conf'))).toBe(false);
});

scenario('static files come from nginx', async () => {
  const folder = 'src/app/static'; // of a service that may have none
  const files = existsSync(folder) ? readdirSync(folder, { withFileTypes: true }) : [];
  for (const { name } of files.filter((entry) => entry.isFile())) {
    const { status, body } = await request(stack.address, `/${name}`);
    expect([name, status, body]).toEqual([name, 200, readFileSync(join(folder, name), 'utf8')]);
  }
});

scenario("the dashboard's script comes from nginx, compressed before, and is kept for good", async () => {
  const { output } = await stack.shell('nginx', 'ls /srv/static/dashboard/static');
  const [name] = /^dashboard-[0-9a-f]{12}\.js$/m.exec(output) ?? [];
  const headers = { 'Accept-Encoding': 'gzip' };
  const script = await request(stack.address, `/dashboard/static/${name}`, { headers });
  expect(script).toMatchObject({
    status: 200,
    headers: { 'content-encoding': 'gzip', 'cache-control': 'max-age=315360000' },
  });
  expect(Number(script.headers['content-length'])).toBeLessThan(320_000); // bytes
});

// --------------------------------------------------------------------------------------------------- hardening

scenario('only nginx is published, and only on this machine', async () => {
  const published: unknown[] = [];
  for (const service of services) {
    const ports = await inspect<Record<string, unknown[] | null>>(
      await stack.container(service),
      '.NetworkSettings.Ports',
    );
    published.push(...Object.values(ports).flatMap((bindings) => bindings ?? []));
  }
  expect(published).toEqual([{ HostIp: '127.0.0.1', HostPort: String(stack.address.port) }]);
});

scenario('nobody can write to a root file system, not even root', async () => {
  for (const service of services) {
    const { code, output } = await stack.shell(service, 'echo >/written', 'root');
    expect([service, code !== 0, output]).toEqual([
      service,
      true,
      expect.stringContaining('Read-only file system'),
    ]);
  }
});

scenario('no process is root, and root itself has no capability and can gain none', async () => {
  for (const service of services) {
    const own = await stack.shell(service, 'id -u; grep -E "^(CapBnd|CapEff|NoNewPrivs)" /proc/1/status');
    expect([service, own.output]).toEqual([
      service,
      expect.stringMatching(/^[1-9]\d*\nCapEff:\t0{16}\nCapBnd:\t0{16}\nNoNewPrivs:\t1\n$/),
    ]);
    const root = await stack.shell(service, 'touch /tmp/file /dev/shm/file; chown 1:1 /dev/shm/file', 'root');
    expect([service, root.code, root.output]).toEqual([service, 1, expect.stringContaining('not permitted')]);
  }
});

scenario('memory that leaks, processes without an end and a full /tmp stay in their container', async () => {
  // The shell's own memory grows until the kernel kills it: 128 + SIGKILL.
  const grow = 'x=xxxxxxxx; while :; do x=$x$x; done';
  for (const service of services) {
    expect([service, (await stack.shell(service, grow)).code]).toEqual([service, 137]);
    const storm = await stack.shell(service, 'i=0; while [ $i -lt 2000 ]; do sleep 3 & i=$((i+1)); done');
    expect([service, storm.output]).toEqual([service, expect.stringMatching(/fork/i)]);
    const fill = 'head -c 1G /dev/zero >/tmp/full; rm /tmp/full';
    const isFull = async () => /No space left/.test((await stack.shell(service, fill)).output);
    await waitFor(isFull, '/tmp to be full'); // when the processes of the storm have ended
    await waitFor(() => stack.ask(), 'an answer', 60_000);
  }
  expect((await stack.judge()).wrong).toEqual([]);
});

scenario('logs are bounded', async () => {
  for (const service of services) {
    const { Config } = await inspect<{ Config: Record<string, string> }>(
      await stack.container(service),
      '.HostConfig.LogConfig',
    );
    expect([service, Config]).toEqual([
      service,
      expect.objectContaining({ 'max-size': '10m', 'max-file': '3', mode: 'non-blocking' }),
    ]);
  }
});

scenario("a health check asks its own container, never a proxy of Docker's client", async () => {
  for (const service of services) {
    const container = await stack.container(service);
    const [, ...command] = await inspect<string[]>(container, '.Config.Healthcheck.Test');
    const proxy = ['--env', 'http_proxy=http://127.0.0.1:1', '--env', 'ALL_PROXY=http://127.0.0.1:1'];
    expect([service, await attempt('docker', ['exec', ...proxy, container, ...command])]).toEqual([
      service,
      expect.objectContaining({ code: 0 }),
    ]);
  }
});

// ---------------------------------------------------------------------------------------------------- failures

for (const service of services) {
  scenario(`${service} is killed under load: answers go on, and are right`, async () => {
    const load = stack.startLoad();
    const container = await stack.container(service);
    const started = await inspect(container, '.State.StartedAt');
    // SIGKILL to every process. After `docker kill` the engine would not restart the container.
    await stack.shell(service, 'kill -9 -1');
    await expectToGoOn(load, `${service} killed`);
    await waitFor(async () => (await inspect(container, '.State.StartedAt')) !== started, 'its restart');
    await waitFor(() => stack.ask(), 'an answer', 60_000);
  });

  scenario(`${service} is made anew under load: answers go on, and are right`, async () => {
    const load = stack.startLoad();
    const container = await stack.container(service);
    await stack.compose(['up', '--detach', '--wait', '--no-build', '--no-deps', '--force-recreate', service]);
    await expectToGoOn(load, `${service} made anew`);
    expect(await stack.container(service)).not.toBe(container);
  });
}

/** Asks on one connection every 100 ms, until an answer closes it. */
async function askUntilClosed(path: string): Promise<Answer[]> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const answers: Answer[] = [];
  while (answers.at(-1)?.headers.connection !== 'close') {
    answers.push(await request(stack.address, path, { agent }));
    await delay(100);
  }
  agent.destroy();
  return answers;
}

scenario(
  'nginx closes no connection in use when it reloads or stops, and what is denied stays denied',
  async () => {
    const image = await inspect(await stack.container('nginx'), '.Config.Image');
    const rule = 'location = /denied { deny all; }';
    const NGINX_IMAGE = await deriveImage(
      'denied',
      `FROM ${image}\nUSER root\nRUN mkdir -p /etc/nginx/app && echo '${rule}' >/etc/nginx/app/denied.conf\nUSER 101\n`,
    );
    await stack.compose(['up', '--detach', '--wait', '--no-build', '--no-deps', 'nginx'], { NGINX_IMAGE });
    const load = startLightLoad(stack.address, 40, { pause: 100, request: { path: '/livez', headers: {} } });
    for (const end of [
      ['kill', '--signal', 'HUP', 'nginx'],
      ['kill', '--signal', 'HUP', 'nginx'],
      ['stop', 'nginx'],
    ]) {
      const closed = askUntilClosed('/denied');
      await load.waitForAnswers(200);
      if (end[0] === 'stop') expectExact(await load.stop(), { wrong: [], unacknowledged: 0 });
      const done = stack.compose(end);
      expect(new Set((await closed).map(({ status }) => status))).toEqual(new Set([403]));
      await done;
    }
    await stack.compose(['up', '--detach', '--wait', '--no-build', '--no-deps', 'nginx']);
  },
);

// ----------------------------------------------------------------------------------------------------- rollout

const rollout = (image: string, variables?: NodeJS.ProcessEnv) =>
  attempt('deploy/rollout', [], {
    cwd: stack.directory,
    env: { ...stack.environment, ...variables, APP_IMAGE: image },
  });

scenario('a new image of the app goes live without a failed request, twice', async () => {
  const image = await inspect(await stack.container('app'), '.Config.Image');
  const load = stack.startLoad();
  for (const version of ['2', '3']) {
    const next = await deriveImage(`version-${version}`, `FROM ${image}\nLABEL version=${version}\n`);
    expect(await rollout(next)).toMatchObject({ code: 0 });
    expect(await inspect(await stack.container('app'), '.Config.Image')).toBe(next);
  }
  expectExact(await load.stop(), await stack.judge());
});

scenario(
  'an image that is nowhere to be had is not rolled out, and not built in its place either',
  async () => {
    const container = await stack.container('app');
    expect(await rollout('localhost:1/missing')).toMatchObject({ code: 1 });
    expect(await stack.container('app')).toBe(container);
  },
);

scenario('an app that crashes again and again is replaced by one that does not', async () => {
  const image = await inspect(await stack.container('app'), '.Config.Image');
  const crashing = await deriveImage('crashing', `FROM ${image}\nCMD ["sh", "-c", "sleep 1; exit 1"]\n`);
  await stack.compose(['up', '--detach', '--no-build', '--no-deps', 'app'], { APP_IMAGE: crashing });
  await waitFor(
    async () => (await inspect<number>(await stack.container('app'), '.RestartCount')) > 1,
    'it to crash',
    30_000,
  );
  expect(await rollout(image)).toMatchObject({ code: 0 });
  expect(await inspect(await stack.container('app'), '.Config.Image')).toBe(image);
  await waitFor(() => stack.ask(), 'an answer', 10_000);
});

scenario('what a roll-out that was cut off has stopped does not come back', async () => {
  const image = await inspect(await stack.container('app'), '.Config.Image');
  const next = await deriveImage('after-a-cut', `FROM ${image}\nLABEL version=next\n`);
  await stack.compose(
    ['up', '--detach', '--wait', '--no-build', '--no-deps', '--no-recreate', '--scale', 'app=2', 'app'],
    { APP_IMAGE: image },
  );
  const [stopped = ''] = (await stack.compose(['ps', '--quiet', 'app'])).split('\n');
  await docker('stop', stopped);
  expect(await rollout(next)).toMatchObject({ code: 0 });
  expect(await inspect(await stack.container('app'), '.Config.Image')).toBe(next);
});

scenario('the first start builds nothing: where no registry answers, nothing starts', async () => {
  const first = await prepareStack(cloneRepository('First'));
  const images = Object.fromEntries(
    services.map((each) => [`${each.toUpperCase()}_IMAGE`, 'localhost:1/a:1.2.3']),
  );
  const { code } = await attempt('deploy/rollout', [], {
    cwd: first.directory,
    env: { ...first.environment, ...images },
  });
  expect(code).not.toBe(0);
  expect(await first.compose(['ps', '--all', '--quiet'])).toBe('');
});

scenario(
  'an image that takes the socket and answers nonsense is not rolled out; the old one gets it back',
  async () => {
    const image = await inspect(await stack.container('app'), '.Config.Image');
    const broken = await deriveImage(
      'nonsense',
      `FROM ${image}
CMD ["node", "-e", "require('http').createServer((_, res) => res.writeHead(500).end()).listen('/run/app/bad', \\
() => { fs.chmodSync('/run/app/bad', 0o666); fs.renameSync('/run/app/bad', '/run/app/app.sock') })"]
`,
    );
    const container = await stack.container('app');
    expect(await rollout(broken, { TIMEOUT: '6' })).toMatchObject({ code: 1 });
    expect(await stack.container('app')).toBe(container);
    await waitFor(() => stack.ask(), 'an answer', 10_000);
    await docker('exec', container, 'node', '/usr/local/lib/healthcheck.cjs');
  },
);
