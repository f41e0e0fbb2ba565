import { randomBytes } from 'node:crypto';
import { chmodSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { pino } from 'pino';
import { createClient } from 'redis';
import { openRedisStore } from '../../src/app/redis-store.ts';
import { readConfig } from '../../src/server/config.ts';
import { atEnd, root, startProcess, stopAll, temporaryDirectory, titleOf } from '../support/processes.ts';
import { freePort } from '../support/requests.ts';
import { delay, waitFor } from '../support/wait.ts';

let rules: string;
beforeAll(() => {
  rules = join(temporaryDirectory(), 'redis.acl');
  const text = readFileSync(join(root, 'src/app/redis.acl'), 'utf8');
  writeFileSync(rules, text.replace(' +client|setinfo', '')); // not known to Redis 7.0, which Debian 12 has
});
afterAll(stopAll);

interface Server {
  pid: number;
  url: string;
  /** Runs a command as administrator. */
  admin(...args: string[]): Promise<string>;
  output(): string;
  end(): Promise<void>;
}

/** deploy/redis-start, as the image runs it, with folders of its own. */
async function start(env: Record<string, string>, folder = temporaryDirectory()): Promise<Server> {
  const port = await freePort();
  const variables = { PATH: process.env.PATH, TMPDIR: folder, REDIS_RULES: rules, ...env };
  const place = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder];
  const server = startProcess(join(root, 'deploy/redis-start'), place, { env: variables });
  const end = async () => {
    server.kill('SIGKILL');
    await server.exited;
  };
  atEnd(end);
  let code: number | null | undefined;
  server.exited.then((exit) => {
    code = exit.code;
  });
  const isOver = () => code !== undefined || /Ready to accept/.test(server.output());
  await waitFor(isOver, 'Redis to accept connections');
  if (code !== undefined) throw new Error(`redis-start ended with ${code}:\n${server.output()}`);
  return {
    pid: server.pid,
    url: `redis://app@127.0.0.1:${port}`,
    output: server.output,
    end,
    async admin(...args) {
      const command = startProcess(join(root, 'deploy/redis-admin'), ['-p', String(port), ...args], {
        env: variables,
      });
      await command.exited;
      return command.output();
    },
  };
}

const log = pino({ enabled: false });

/** The store as the service opens it with these variables. */
function openStore(url: string, variables: Record<string, string>, deduplicationWindow = 30_000) {
  const config = readConfig(variables);
  return openRedisStore(url, { password: () => config.redisPassword, log, deduplicationWindow });
}

/** Whether the store can count with these credentials. */
async function isReady(url: string, variables: Record<string, string>): Promise<boolean> {
  const store = openStore(url, variables);
  try {
    await waitFor(() => store.ready().then(() => true), 'the store to be ready', 20_000);
    return true;
  } catch {
    return false;
  } finally {
    await store.close();
  }
}

async function canLogIn(url: string, username: string, password: string): Promise<boolean> {
  const client = createClient({
    url: url.replace('app@', ''),
    username,
    password,
    socket: { reconnectStrategy: false },
  });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.sendCommand(['ACL', 'WHOAMI']).catch((error) => {
      if (!/NOPERM/.test(error.message)) throw error;
    });
    return true;
  } catch {
    return false;
  } finally {
    client.destroy();
  }
}

// Whatever an environment variable can have: no NUL, and no half of a surrogate pair.
const passwords = fc
  .oneof(
    fc.string({ unit: 'grapheme', minLength: 1 }),
    fc.string({ unit: fc.constantFrom(...'/?#%@:\\\'"`$*~&>+-! \n\tä€😀'), minLength: 1 }),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 200 }),
  )
  .filter((text) => !text.includes('\0') && Buffer.from(text).toString() === text && /[^\r\n]/.test(text));

test('any password works, as a variable and from the file, and is neither in a log nor in an argument', async () => {
  await fc.assert(
    fc.asyncProperty(passwords, async (password) => {
      const file = join(temporaryDirectory(), 'password');
      const server = await start({ REDIS_PASSWORD: password, REDIS_PASSWORD_FILE: file });
      expect(await isReady(server.url, { REDIS_PASSWORD: password })).toBe(true);
      expect(await isReady(server.url, { REDIS_PASSWORD_FILE: file })).toBe(true);
      expect(await canLogIn(server.url, 'app', `${password}x`)).toBe(false);
      if (password.length > 8) expect(server.output() + titleOf(server.pid)).not.toContain(password);
      await server.end();
    }),
    {
      numRuns: 12,
      examples: [
        ['-n'],
        ['\\c'],
        ['a/b?c#d%41 e\nf'],
        ['\n\na'],
        ['>nopass'],
        ['pasted\r\n'],
        ['\r\r\n a\r'],
      ],
    },
  );
});

test('without one, a random password is made at the first start, and stays', async () => {
  const folder = temporaryDirectory();
  const file = join(folder, 'password');
  const first = await start({ REDIS_PASSWORD_FILE: file });
  const password = readFileSync(file, 'utf8');
  expect(password).toMatch(/^[\w+/]{32}\n$/);
  expect(statSync(file).mode & 0o777).toBe(0o444); // the app's user is another one
  expect(readdirSync(folder)).not.toContain('password.new');
  expect(await isReady(first.url, { REDIS_PASSWORD_FILE: file })).toBe(true);
  await first.end();
  const second = await start({ REDIS_PASSWORD_FILE: file });
  expect(readFileSync(file, 'utf8')).toBe(password);
  expect(await isReady(second.url, { REDIS_PASSWORD_FILE: file })).toBe(true);
  const other = join(folder, 'other');
  await start({ REDIS_PASSWORD_FILE: other });
  expect(readFileSync(other, 'utf8')).not.toBe(password);
});

test('a file that is there already is read and not written', async () => {
  const file = join(temporaryDirectory(), 'password');
  writeFileSync(file, 'given\r\n');
  chmodSync(file, 0o400);
  const { ino } = statSync(file);
  const server = await start({ REDIS_PASSWORD_FILE: file });
  expect(await isReady(server.url, { REDIS_PASSWORD: 'given' })).toBe(true);
  expect(statSync(file).ino).toBe(ino);
});

test('without a place for it, Redis does not start and says what to set', async () => {
  await expect(start({})).rejects.toThrow('REDIS_PASSWORD or REDIS_PASSWORD_FILE must be set');
});

test('a new password is used from the next connection on, while the app runs', async () => {
  const folder = temporaryDirectory();
  const file = join(folder, 'password');
  const first = await start({ REDIS_PASSWORD_FILE: file });
  const store = openStore(first.url, { REDIS_PASSWORD_FILE: file });
  await waitFor(() => store.ready().then(() => true), 'the store to be ready');
  await first.admin('acl', 'setuser', 'app', 'resetpass', '>another');
  writeFileSync(`${file}.new`, 'another\n');
  await store.ready(); // its connection is not cut
  renameSync(`${file}.new`, file);
  await first.admin('client', 'kill', 'user', 'app');
  await waitFor(() => store.ready().then(() => true), 'the store to be ready again', 5_000);
  await store.close();
});

test('a file that goes away is an outage like another; one that is missing at the start is named', async () => {
  const folder = temporaryDirectory();
  const file = join(folder, 'password');
  expect(() => openStore('redis://app@localhost', { REDIS_PASSWORD_FILE: file })).toThrow(
    `REDIS_PASSWORD cannot be read from ${file} (ENOENT)`,
  );
  const server = await start({ REDIS_PASSWORD: 'late' });
  writeFileSync(file, 'late');
  const store = openStore(server.url, { REDIS_PASSWORD_FILE: file });
  renameSync(file, `${file}.away`);
  await delay(200);
  await expect(store.ready()).rejects.toThrow();
  renameSync(`${file}.away`, file);
  await waitFor(() => store.ready().then(() => true), 'the store to be ready', 5_000);
  await store.close();
});

test('only the app and redis-admin log in; redis-admin gets a new password at each start', async () => {
  const folder = temporaryDirectory();
  const first = await start({ REDIS_PASSWORD: 'secret' }, folder);
  const admin = readFileSync(join(folder, 'admin'), 'utf8').trim();
  expect(statSync(join(folder, 'admin')).mode & 0o077).toBe(0);
  expect(await canLogIn(first.url, 'app', 'secret')).toBe(true);
  expect(await canLogIn(first.url, 'admin', admin)).toBe(true);
  expect(await canLogIn(first.url, 'admin', 'secret')).toBe(false);
  expect(await canLogIn(first.url, 'default', '')).toBe(false);
  expect(await canLogIn(first.url, 'default', 'secret')).toBe(false);
  expect(await first.admin('acl', 'whoami')).toBe('admin\n');
  await first.end();
  const second = await start({ REDIS_PASSWORD: 'secret' }, folder);
  expect(await canLogIn(second.url, 'admin', admin)).toBe(false);
});

test('an app without rules has no user, and Redis starts all the same', async () => {
  const server = await start({ REDIS_PASSWORD: 'secret', REDIS_RULES: '/none' });
  expect(await canLogIn(server.url, 'app', 'secret')).toBe(false);
  expect(await server.admin('ping')).toBe('PONG\n');
});

test('when memory is short, visits are refused and no id is forgotten, until old ids expire', async () => {
  const server = await start({ REDIS_PASSWORD: 'secret', REDIS_MAXMEMORY: '4mb' });
  const store = openStore(server.url, { REDIS_PASSWORD: 'secret' }, 5_000);
  await waitFor(() => store.ready().then(() => true), 'the store to be ready');
  const newIds = () => Array.from({ length: 1_000 }, () => randomBytes(16).toString('hex'));
  const allocate = (ids: string[]) => store.allocate(ids, Date.now() + 2_000);
  const batches: string[][] = [];
  await expect(
    (async () => {
      for (;;) {
        const ids = newIds();
        await allocate(ids);
        batches.push(ids);
      }
    })(),
  ).rejects.toThrow(/OOM/);
  await expect(store.ready()).rejects.toThrow(/OOM/);
  expect(await server.admin('get', 'visits')).toBe(`${1_000 * batches.length}\n`);
  expect(await server.admin('info', 'stats')).toMatch(/^evicted_keys:0\r?$/m);
  const next = await waitFor(() => allocate(newIds()), 'memory', 20_000);
  expect(next[0]).toBe(1_000 * batches.length + 1);
  await store.close();
});
