import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openRedisStore } from '../../src/app/redis-store.ts';
import type { Log } from '../../src/contract.ts';
import { stopAll } from '../support/processes.ts';
import { type Redis, startRedis } from '../support/redis.ts';
import { waitFor } from '../support/wait.ts';

const log = { info() {}, warn() {}, error() {} } as unknown as Log;

/** What the deployed user may do, but for what the client needs for itself and can do without. */
const [rights = [], rightsOfDashboard = []] = readFileSync('src/app/redis.acl', 'utf8')
  .split(/^# A visit needs none of these.*$/m)
  .map((part) =>
    part
      .replaceAll(/#.*$/gm, '')
      .split(/\s+/)
      .filter((rule) => rule && rule !== '+ping' && rule !== '+client|setinfo'),
  );

let redis: Redis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(stopAll);

/** As Redis words it for a command, and inside of a script. */
const isRefusal = ({ message }: Error) =>
  /NOPERM|ACL failure|The user executing the script can't/.test(message);

/** What becomes of both calls for a user with these rights. */
async function tryAs(rules: string[]): Promise<{ ready: string; allocate: string }> {
  await redis.command('SCRIPT', 'FLUSH'); // a known script hides that the user may not bring it
  await redis.command('ACL', 'SETUSER', 'somebody', 'reset', 'on', 'nopass', '+ping', ...rules);
  const url = redis.url.replace('//', '//somebody:any@');
  const store = openRedisStore(url, { log, deduplicationWindow: 30_000 });
  const outcome = (call: () => Promise<unknown>) =>
    waitFor(
      () =>
        call().then(
          () => 'fine',
          (error: Error) => isRefusal(error) && 'refused',
        ),
      'an answer of Redis',
      10_000,
    );
  try {
    const ready = await outcome(() => store.ready());
    const allocate = await outcome(() =>
      store.allocate([randomBytes(16).toString('hex')], Date.now() + 2_000),
    );
    return { ready, allocate };
  } finally {
    await store.close();
  }
}

test('a user with all rights is ready and can count', async () => {
  expect(await tryAs(rights)).toEqual({ ready: 'fine', allocate: 'fine' });
});

test.each(rights)('a user without %s cannot count, and ready() says so', async (right) => {
  const others = rights.filter((rule) => rule !== right);
  expect(await tryAs(others)).toEqual({ ready: 'refused', allocate: 'refused' });
});

test('the question counts nothing', async () => {
  await redis.command('FLUSHALL');
  const store = openRedisStore(redis.url, { log, deduplicationWindow: 30_000 });
  await waitFor(() => store.ready().then(() => true), 'the connection to Redis');
  await store.ready();
  expect(await store.allocate(['a'.repeat(32)], Date.now() + 2_000)).toEqual([1]);
  await store.close();
});

/** What becomes of all that the dashboard asks, for a user who can count and has these rights more. */
async function plotAs(rules: string[]): Promise<string> {
  await redis.command('ACL', 'SETUSER', 'viewer', 'reset', 'on', 'nopass', '+ping', ...rights, ...rules);
  const store = openRedisStore(redis.url.replace('//', '//viewer:any@'), {
    log,
    deduplicationWindow: 30_000,
  });
  try {
    await waitFor(() => store.ready().then(() => true), 'the connection to Redis');
    await store.note(Date.now(), await store.count());
    await store.notes();
    const { key = '', command } = store.redis ?? {};
    await command?.(['XADD', key, '*', 'text', '{}']);
    await command?.(['XRANGE', key, '-', '+']);
    return 'fine';
  } catch (error) {
    return isRefusal(error as Error) ? 'refused' : String(error);
  } finally {
    await store.close();
  }
}

test('the dashboard needs each of its rights, and no other', async () => {
  expect(rightsOfDashboard.length).toBeGreaterThan(0);
  expect(await plotAs(rightsOfDashboard)).toBe('fine');
  for (const right of rightsOfDashboard) {
    expect([right, await plotAs(rightsOfDashboard.filter((rule) => rule !== right))]).toEqual([
      right,
      'refused',
    ]);
  }
});
