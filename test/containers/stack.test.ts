import { readFileSync } from 'node:fs';
import { afterAll, expect } from '@jest/globals';
import { parse } from 'yaml';
import { request, waitFor } from '../processes.ts';
import {
  attempt,
  copyRepository,
  deriveImage,
  docker,
  given,
  inspect,
  prepare,
  prepareStack,
  removeAll,
  type Stack,
  scenario,
  startVisits,
  type Visits,
} from './engine.ts';

const services = ['app', 'nginx', 'redis'];
const up = ['up', '--detach', '--wait'];

let stack: Stack;
let clone: Stack;
prepare(async () => {
  stack = await prepareStack(copyRepository('The.Stack'));
  clone = await prepareStack(copyRepository('A.Second.Clone'));
  // What is given is tested as it is; --no-build would be an error where it is missing.
  await stack.compose(given.app && given.nginx ? [...up, '--no-build'] : up);
  Object.assign(clone.environment, {
    APP_IMAGE: given.app || `${stack.name}-app`,
    NGINX_IMAGE: given.nginx || `${stack.name}-nginx`,
  });
  await clone.compose([...up, '--no-build']);
});
afterAll(removeAll, 120_000);

/** Visits go on: two seconds are the aim, which is printed, and ten are no longer the machine's doing. */
async function expectToGoOn(stop: () => Promise<Visits>, before: number, what: string): Promise<void> {
  await waitFor(() => stack.visit(), 'a visit to succeed', 30_000);
  const visits = await stop();
  process.stdout.write(`${what}: ${visits.gap.toFixed(0)} ms without a visit\n`);
  await expectNoneLost(visits, before);
  expect(visits.gap).toBeLessThan(10_000);
}

/** No visit got another's number, and the count has each one that was acknowledged. */
async function expectNoneLost(visits: Visits, before: number): Promise<void> {
  expect(new Set(visits.numbers).size).toBe(visits.numbers.length);
  expect(await stack.visit()).toBeGreaterThan(before + visits.numbers.length);
}

// ------------------------------------------------------------------------------------------------ side by side

scenario('one command serves, and a second clone of another name counts beside it', async () => {
  const numbers = [await stack.visit(), await stack.visit(), await clone.visit(), await stack.visit()];
  expect(numbers).toEqual([1, 2, 1, 3]);
  await clone.compose(['down', '--volumes']);
  expect(await stack.visit()).toBe(4);
});

scenario('static files come from nginx', async () => {
  const { status, headers } = await request(stack.address, '/favicon.svg');
  expect([status, headers['content-type']]).toEqual([200, expect.stringMatching(/^image\/svg\+xml/)]);
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

scenario(
  'Redis is out of reach for nginx and for whatever is beside it, and reaches nothing itself',
  async () => {
    const { output } = await stack.shell('redis', 'cat /etc/hosts; cat /proc/net/route');
    const address = /^(\d+(?:\.\d+){3})\s+[0-9a-f]{12}$/m.exec(output)?.[1];
    expect(address).toMatch(/\./);
    expect(output).not.toMatch(/^\S+\t00000000\t/m); // no default route
    const knock = await stack.shell(
      'nginx',
      `curl --silent --max-time 2 telnet://${address}:6379 </dev/null`,
    );
    expect([7, 28]).toContain(knock.code); // refused or no answer
    const ask = await stack.shell('nginx', 'curl --silent --max-time 2 telnet://redis:6379 </dev/null');
    expect([6, 28]).toContain(ask.code); // there is no such name
    const inside = await stack.shell(
      'app',
      "node -e \"require('net').connect(6379, 'redis', () => process.exit(0))\"",
    );
    expect(inside.code).toBe(0);
  },
);

scenario("the counter's user can count and do nothing else; no other user can log in", async () => {
  const ask = async (command: string) =>
    (await stack.shell('redis', `redis-cli --user counter --no-auth-warning ${command}`)).output;
  const before = await stack.visit();
  for (const command of [
    ...[
      'flushall',
      'get visits',
      'del visits',
      'keys "*"',
      'config get dir',
      'acl list',
      'shutdown',
      'monitor',
    ],
    ...[
      'hset other x 1',
      'incrby other 1',
      'hmget other x',
      'script flush',
      'save',
      'client list',
      'debug sleep 0',
    ],
    ...[`eval "return redis.call('FLUSHALL')" 0`, `eval "return redis.call('HSET', 'other', 'x', 1)" 0`],
  ]) {
    expect([command, await ask(command)]).toEqual([
      command,
      expect.stringMatching(/NOPERM|ACL failure|not allowed/),
    ]);
  }
  const anybody = await stack.shell('redis', 'env -u REDISCLI_AUTH redis-cli ping');
  expect(anybody.output).toMatch(/NOAUTH/);
  const guess = await stack.shell('redis', 'REDISCLI_AUTH=wrong redis-cli --user counter ping');
  expect(guess.output).toMatch(/WRONGPASS/);
  expect(await stack.visit()).toBe(before + 1);
});

scenario('logs are bounded', async () => {
  for (const service of services) {
    const { Config } = await inspect<{ Config: Record<string, string> }>(
      await stack.container(service),
      '.HostConfig.LogConfig',
    );
    expect([service, Config]).toEqual([service, { 'max-size': '10m', 'max-file': '3' }]);
  }
});

scenario('each has more time to stop than what it waits for itself', async () => {
  const compose = parse(readFileSync('docker-compose.yml', 'utf8'), { merge: true });
  const nginx = readFileSync('deploy/nginx.conf', 'utf8');
  const supervisord = readFileSync('deploy/supervisord.conf', 'utf8');
  const worker = Number(compose.services.app.environment.GRACEFUL_TIMEOUT);
  const proxy = Number(/worker_shutdown_timeout (\d+)s;/.exec(nginx)?.[1]);
  const [app, both] = Array.from(supervisord.matchAll(/^stopwaitsecs=(\d+)$/gm), ([, text]) => Number(text));
  expect(worker).toBeGreaterThan(0);
  expect(proxy).toBeGreaterThan(worker);
  expect(app).toBeGreaterThan(worker);
  expect(both).toBeGreaterThan(proxy);
  for (const service of services) {
    expect(Number.parseInt(compose.services[service].stop_grace_period, 10)).toBeGreaterThan(proxy);
  }
});

// ---------------------------------------------------------------------------------------------------- failures

scenario('the count survives down and up', async () => {
  const before = await stack.visit();
  await stack.compose(['down']);
  await stack.compose([...up, '--no-build']);
  expect(await stack.visit()).toBe(before + 1);
});

for (const service of services) {
  scenario(`${service} is killed under load: visits go on, and none is lost`, async () => {
    const before = await stack.visit();
    const stop = startVisits(stack);
    const container = await stack.container(service);
    const started = await inspect(container, '.State.StartedAt');
    // The engine takes its own `docker kill` for a wish and would not restart it; what all die of here is SIGKILL.
    await stack.shell(service, 'kill -9 -1');
    await expectToGoOn(stop, before, `${service} killed`);
    expect(await inspect(container, '.State.StartedAt')).not.toBe(started);
  });

  scenario(`${service} is made anew under load: visits go on, and none is lost`, async () => {
    const before = await stack.visit();
    const stop = startVisits(stack);
    const container = await stack.container(service);
    await stack.compose([...up, '--no-build', '--no-deps', '--force-recreate', service]);
    await expectToGoOn(stop, before, `${service} made anew`);
    expect(await stack.container(service)).not.toBe(container);
  });
}

scenario('when memory is short, remembered ids are forgotten and the count is not', async () => {
  const before = await stack.visit();
  const remembered = 160; // a megabyte each, more than Redis may have
  const { output } = await stack.shell(
    'redis',
    `for i in $(seq ${remembered}); do redis-cli --user counter --no-auth-warning \\
       eval "redis.call('HSET', KEYS[1], 'id', string.rep('x', 1000000))
             return redis.call('PEXPIREAT', KEYS[1], 9999999999999)" 1 visits:$i; done | sort | uniq -c
     for i in $(seq ${remembered}); do redis-cli --user counter --no-auth-warning \\
       hmget visits:$i id; done | cut -c 1 | sort | uniq -c`,
  );
  const [, kept] = /^\s*160 1\n[\s\S]*?(\d+) x\n$/.exec(output) ?? [];
  expect(Number(kept)).toBeGreaterThan(0);
  expect(Number(kept)).toBeLessThan(remembered);
  expect(await stack.visit()).toBe(before + 1);
});

// ----------------------------------------------------------------------------------------------------- rollout

const rollout = (image: string, variables?: NodeJS.ProcessEnv) =>
  attempt('deploy/rollout', [], {
    cwd: stack.directory,
    env: { ...stack.environment, ...variables, APP_IMAGE: image },
  });

scenario('a new image of the app goes live without a failed visit, twice', async () => {
  const image = await inspect(await stack.container('app'), '.Config.Image');
  const before = await stack.visit();
  const stop = startVisits(stack);
  for (const version of ['2', '3']) {
    const next = await deriveImage(`version-${version}`, `FROM ${image}\nLABEL version=${version}\n`);
    expect(await rollout(next)).toMatchObject({ code: 0 });
    expect(await inspect(await stack.container('app'), '.Config.Image')).toBe(next);
  }
  const visits = await stop();
  expect(visits.failures).toEqual([]);
  await expectNoneLost(visits, before);
});

scenario(
  'an image that is nowhere to be had is not rolled out, and not built in its place either',
  async () => {
    const container = await stack.container('app');
    expect(await rollout('localhost:1/counter-test-missing')).toMatchObject({ code: 1 });
    expect(await stack.container('app')).toBe(container);
  },
);

scenario('an image that does not start is not rolled out, and costs no visit', async () => {
  const image = await inspect(await stack.container('app'), '.Config.Image');
  const broken = await deriveImage('silent', `FROM ${image}\nCMD ["sleep", "600"]\n`);
  const container = await stack.container('app');
  const stop = startVisits(stack);
  expect(await rollout(broken, { TIMEOUT: '6' })).toMatchObject({
    code: 1,
    output: expect.stringContaining('back to the old one'),
  });
  const visits = await stop();
  expect(visits.failures).toEqual([]);
  expect(await stack.container('app')).toBe(container);
});

scenario(
  'an image that takes the socket and answers nonsense is not rolled out; the old one has it back',
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
    await waitFor(() => stack.visit(), 'a visit to succeed', 10_000);
    await docker('exec', container, 'node', '/usr/local/lib/healthcheck.cjs');
  },
);
