/** Redis as Compose runs it, with the rights that src/app/redis.acl gives to the app. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from '@jest/globals';
import {
  attempt,
  cloneRepository,
  docker,
  execute,
  inspect,
  prepare,
  prepareStack,
  removeAll,
  type Stack,
  scenario,
  startContainer,
} from '../../containers/engine.ts';
import { waitFor } from '../../support/wait.ts';
import { numberIn } from '../visit.ts';

let stack: Stack;
prepare(async () => {
  stack = await prepareStack(cloneRepository('Redis'));
  await stack.up();
});
afterAll(removeAll, 120_000);

const visit = async (of = stack) => numberIn((await of.ask()).body);

/** A shell command in Redis' container, in which redis-cli is the app. */
const asApp = (command: string) =>
  stack.shell(
    'redis',
    `export REDISCLI_AUTH="$(cat /run/redis/password)"; app() { redis-cli --user app --no-auth-warning "$@"; }\n${command}`,
  );

scenario('the count survives down and up', async () => {
  const before = (await visit()) as number;
  await stack.compose(['down']);
  await stack.compose(['up', '--detach', '--wait', '--no-build']);
  expect(await visit()).toBe(before + 1);
});

scenario("the page's commands back it up and restore it while it serves", async () => {
  const page = readFileSync('docs/production.md', 'utf8');
  const [backup = '', restore = ''] = page.match(/^ {4}docker compose exec -T redis .*$/gm) ?? [];
  const options = { cwd: stack.directory, env: stack.environment };
  const before = (await visit()) as number;
  await execute('sh', ['-c', backup], options);
  await visit();
  await execute('sh', ['-c', restore], options);
  expect(await waitFor(() => visit(), 'an answer', 30_000)).toBe(before + 1);
});

scenario('nobody sees the password: neither ps nor docker inspect nor a log shows it', async () => {
  const { output } = await stack.shell('redis', 'cat /run/redis/password');
  const password = output.trim();
  expect(password).toMatch(/^[\w+/]{32}$/);
  for (const service of ['app', 'nginx', 'redis']) {
    const container = await stack.container(service);
    for (const args of [
      ['inspect', container],
      ['top', container, '-eo', 'pid,args'],
      ['logs', container],
    ]) {
      const shown = await docker(...args);
      expect([args[0], shown.includes(password)]).toEqual([args[0], false]);
    }
  }
  expect((await stack.shell('nginx', 'ls /run/redis')).code).not.toBe(0);
  expect((await stack.shell('app', 'echo x >/run/redis/password')).code).not.toBe(0);
});

scenario(
  'Redis is out of reach for nginx and for any other container, and reaches nothing itself',
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

scenario('the app can count in Redis and do nothing else; nobody else can log in', async () => {
  const before = (await visit()) as number;
  for (const command of [
    ...['flushall', 'set visits 0', 'del visits', 'keys "*"', 'config get dir', 'acl list', 'shutdown'],
    ...['monitor', 'hset other x 1', 'incrby other 1', 'hmget other x', 'script flush', 'save'],
    ...['client list', 'debug sleep 0'],
    ...[`eval "return redis.call('FLUSHALL')" 0`, `eval "return redis.call('HSET', 'other', 'x', 1)" 0`],
  ]) {
    expect([command, (await asApp(`app ${command}`)).output]).toEqual([
      command,
      expect.stringMatching(/NOPERM|ACL failure|not allowed/),
    ]);
  }
  const anybody = await stack.shell('redis', 'redis-cli ping');
  expect(anybody.output).toMatch(/NOAUTH/);
  const guess = await stack.shell('redis', 'REDISCLI_AUTH=wrong redis-cli --user app ping');
  expect(guess.output).toMatch(/WRONGPASS/);
  expect(await visit()).toBe(before + 1);
});

scenario('an administrator sees everything, by a command in the container', async () => {
  const before = (await visit()) as number;
  expect((await stack.shell('redis', 'redis-admin get visits')).output).toBe(`${before}\n`);
});

scenario('a password that is set takes the place of the old one, and the count stays', async () => {
  const before = (await visit()) as number;
  const password = `a/b#c%41 d'e"f$(g)\\\n*é`;
  await stack.up({ REDIS_PASSWORD: password });
  expect(await visit()).toBe(before + 1);
  expect((await asApp('app ping')).output).toBe('PONG\n');
  expect((await stack.shell('redis', 'cat /run/redis/password')).output).toBe(`${password}\n`);
  const top = await docker('top', await stack.container('redis'), '-eo', 'pid,args');
  expect(top).not.toContain(password.slice(0, 8));
  await stack.up(); // no longer set: the last one stays
  expect((await stack.shell('redis', 'cat /run/redis/password')).output).toBe(`${password}\n`);
  expect(await visit()).toBe(before + 2);
});

scenario('a right that is missing keeps a stack from becoming healthy', async () => {
  const limited = await prepareStack(cloneRepository('Limited'));
  const rules = join(limited.directory, 'src/app/redis.acl');
  const text = readFileSync(rules, 'utf8');
  expect(text).toContain(' +hset ');
  writeFileSync(rules, text.replace(' +hset ', ' '));
  delete limited.environment.REDIS_IMAGE;
  Object.assign(limited.environment, { APP_IMAGE: stack.image('app'), NGINX_IMAGE: stack.image('nginx') });
  await limited.compose(['build', 'redis']);
  const { code, output } = await attempt('docker', ['compose', 'up', '--detach', '--wait', '--no-build'], {
    cwd: limited.directory,
    env: limited.environment,
  });
  expect([code, output]).toEqual([1, expect.stringContaining('is unhealthy')]);
  await limited.compose(['up', '--detach', '--no-build', '--no-deps', 'nginx']);
  const ask = 'curl --silent --output /dev/null --write-out "%{http_code}" http://127.0.0.1:8081/readyz';
  const answers = async (status: string) => (await limited.shell('nginx', ask)).output === status;
  await waitFor(() => answers('503'), 'an app that is not ready', 30_000);
  // The right is given back: what has changed is built and made anew, and nothing has to be removed.
  writeFileSync(rules, text);
  await limited.compose(['up', '--detach', '--wait', '--build', 'redis']);
  await waitFor(() => answers('200'), 'the app to be ready', 30_000);
  expect(await visit(limited)).toBe(1);
});

scenario("the app's health check fails while Redis is away", async () => {
  const container = await startContainer('--env', 'REDIS_URL=redis://127.0.0.1:1', stack.image('app'));
  await waitFor(async () => /serving/.test(await docker('logs', container)), 'the app to listen', 30_000);
  const check = await attempt('docker', ['exec', container, 'node', '/usr/local/lib/healthcheck.cjs']);
  expect(check).toMatchObject({ code: 1, output: expect.stringMatching(/^503 /) });
  expect(await inspect(container, '.State.Running')).toBe(true);
});
