import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type Counter, createCounter } from '../../src/app/counter.ts';
import { answerChannel, createMemory, openMemoryStore } from '../../src/app/memory-store.ts';
import { countKey, openRedisStore } from '../../src/app/redis-store.ts';
import type { Store } from '../../src/app/store.ts';
import type { Log } from '../../src/contract.ts';
import { batch } from '../../src/server/retry.ts';
import { WorkerMetrics } from '../../src/server/worker-metrics.ts';
import { stopAll } from '../support/processes.ts';
import { type Redis, startRedis } from '../support/redis.ts';
import { waitFor } from '../support/wait.ts';

const deduplicationWindow = 30_000;

const log = { info() {}, warn() {}, error() {} } as unknown as Log;
const newId = () => randomBytes(16).toString('hex');
const soon = () => Date.now() + 2_000;
/** Tried again, as `batch` does, where the machine is so busy that the connection falls silent. */
const allocate = (store: Store, ids: string[]) => waitFor(() => store.allocate(ids, soon()), 'an allocation');

let redis: Redis;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(stopAll);

/** Stores of as many workers on one new count. */
async function openRedisStores(workers: number): Promise<Store[]> {
  await redis.command('FLUSHALL');
  const stores = Array.from({ length: workers }, () =>
    openRedisStore(redis.url, { log, deduplicationWindow }),
  );
  for (const store of stores) await waitFor(() => store.ready().then(() => true), 'the connection to Redis');
  return stores;
}

async function openMemoryStores(workers: number): Promise<Store[]> {
  const memory = createMemory(deduplicationWindow);
  return Array.from({ length: workers }, () => {
    const [worker, primary] = [new EventEmitter(), new EventEmitter()];
    const carry = (to: EventEmitter) => (message: object) => setImmediate(() => to.emit('message', message));
    answerChannel(Object.assign(worker, { send: carry(primary) as never }), memory);
    return openMemoryStore(Object.assign(primary, { send: carry(worker) as never, connected: true }));
  });
}

describe.each([
  ['in Redis', openRedisStores],
  ['in memory', openMemoryStores],
])('a count that is kept %s', (_, openStores) => {
  let stores: Store[] = [];
  async function open(workers: number): Promise<Counter[]> {
    await Promise.all(stores.map((store) => store.close()));
    stores = await openStores(workers);
    return stores.map((store) => createCounter(store, { batch, metrics: new WorkerMetrics() }));
  }
  afterAll(() => Promise.all(stores.map((store) => store.close())));

  test('gives 500 parallel visits of three workers exactly 1 to 500', async () => {
    const workers = await open(3);
    const visits = Array.from({ length: 500 }, (_, i) => workers[i % 3]?.visit(newId()));
    const numbers = (await Promise.all(visits)) as number[];
    expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, i) => i + 1));
  });

  test('numbers any interleaving of visits and repeated ids without a gap', async () => {
    const visits = fc.array(fc.record({ worker: fc.nat(2), id: fc.nat(25), wait: fc.boolean() }), {
      maxLength: 80,
    });
    await fc.assert(
      fc.asyncProperty(visits, async (list) => {
        const workers = await open(3);
        const ids = new Map<number, string>();
        const numbers = new Map<string, Set<number>>();
        const answers: Promise<void>[] = [];
        for (const { worker, id, wait } of list) {
          const name = ids.get(id) ?? newId();
          ids.set(id, name);
          const answer = workers[worker]?.visit(name).then((number) => {
            numbers.set(name, (numbers.get(name) ?? new Set()).add(number));
          });
          answers.push(answer as Promise<void>);
          if (wait) await answer;
        }
        await Promise.all(answers);
        const given = [...numbers.values()].flatMap((set) => [...set]).sort((a, b) => a - b);
        expect(given).toEqual(Array.from({ length: ids.size }, (_, i) => i + 1));
      }),
      { numRuns: 8 },
    );
  });

  test('gives a repeated id its first number, by whichever worker', async () => {
    const [one, two] = (await open(2)) as [Counter, Counter];
    const id = newId();
    expect(await one.visit(id)).toBe(1);
    expect(await two.visit(newId())).toBe(2);
    expect(await two.visit(id)).toBe(1);
    expect(await one.visit(newId())).toBe(3);
  });

  test('numbers up to a thousand visits in one step', async () => {
    const [store] = (await openStores(1)) as [Store];
    const ids = Array.from({ length: 1_000 }, newId);
    expect(await allocate(store, ids)).toEqual(ids.map((_, i) => i + 1));
    expect(await allocate(store, [newId(), ...ids.slice(1)])).toEqual([
      1_001,
      ...ids.slice(1).map((_, i) => i + 2),
    ]);
    await store.close();
  });

  test('counts nothing once the deadline has passed', async () => {
    const [store] = (await openStores(1)) as [Store];
    await allocate(store, [newId()]);
    await expect(store.allocate([newId()], Date.now() - 1_000)).rejects.toThrow('deadline');
    expect(await allocate(store, [newId()])).toEqual([2]);
    await store.close();
  });

  test('is ready', async () => {
    const [store] = (await openStores(1)) as [Store];
    await expect(store.ready()).resolves.toBeUndefined();
    expect(await allocate(store, [newId()])).toEqual([1]); // nothing was counted by the question
    await store.close();
  });
});

test('Redis forgets an id after the deduplication window, and never the count', async () => {
  const window = async () => String((await redis.command('KEYS', `{${countKey}}:*`)) as string[]);
  // Not so late in a window that the next one begins meanwhile.
  const elapsed = async () =>
    (Number(((await redis.command('TIME')) as string[])[0]) * 1_000) % deduplicationWindow;
  await waitFor(async () => (await elapsed()) < deduplicationWindow - 5_000, 'the beginning of a window');
  const [store] = (await openRedisStores(1)) as [Store]; // asks whether it is ready, which makes the window's hash
  const id = newId();
  await allocate(store, [id]);
  const first = await window();
  const left = await redis.command('PTTL', first);
  expect(left).toBeGreaterThan(deduplicationWindow);
  expect(left).toBeLessThanOrEqual(2 * deduplicationWindow);
  // A window later it is still known; two windows later Redis has dropped it, and nobody would ask for it any more.
  const earlier = (windows: number) => first.replace(/\d+$/, (number) => String(Number(number) - windows));
  await redis.command('RENAME', first, earlier(1));
  expect(await allocate(store, [id])).toEqual([1]);
  await redis.command('RENAME', earlier(1), earlier(2));
  expect(await allocate(store, [id])).toEqual([2]);
  expect(await redis.command('TTL', countKey)).toBe(-1);
  await store.close();
});

test('an id that a version before 0.2.0 has counted keeps its number', async () => {
  const [store] = (await openRedisStores(1)) as [Store];
  const [id, next] = [newId(), newId()];
  for (const windowsAgo of [0, 1]) {
    await redis.command('FLUSHALL');
    await allocate(store, [next]); // makes a hash, whose name has the index of the window
    const [name = ''] = (await redis.command('KEYS', `{${countKey}}:*`)) as string[];
    const old = `${countKey}:${Number(/\d+$/.exec(name)?.[0]) - windowsAgo}`;
    const bytes = `redis.call('HSET', KEYS[1], (ARGV[1]:gsub('..', function(hex) return string.char(tonumber(hex, 16)) end)), 7)`;
    await redis.command('EVAL', bytes, '1', old, id);
    expect(await allocate(store, [id, newId()])).toEqual([7, 2]);
  }
  await store.close();
});

test('in a cluster one shard is enough: all keys are in the slot of the count', async () => {
  const cluster = await startRedis({
    args: ['--cluster-enabled', 'yes', '--cluster-require-full-coverage', 'no'],
  });
  await cluster.command('CLUSTER', 'ADDSLOTS', String(await cluster.command('CLUSTER', 'KEYSLOT', countKey)));
  const store = openRedisStore(cluster.url, { log, deduplicationWindow });
  const id = newId();
  expect(await allocate(store, [id])).toEqual([1]);
  expect(await allocate(store, [newId(), id])).toEqual([2, 1]);
  await store.close();
});

test.each([
  ['without a password', []],
  ['with one', ['--requirepass', 'secret']],
])('a Redis %s that does not know HELLO will do', async (_, args) => {
  const old = await startRedis({ args: ['--rename-command', 'HELLO', '', ...args] });
  const options = { log, deduplicationWindow, password: () => args[1] };
  const store = openRedisStore(old.url, options);
  expect(await allocate(store, [newId()]).finally(store.close)).toEqual([1]);
});

test('a Redis that has lost its scripts gets the script again', async () => {
  const [store] = (await openRedisStores(1)) as [Store];
  const counter = createCounter(store, { batch, metrics: new WorkerMetrics() });
  expect(await counter.visit(newId())).toBe(1);
  await redis.command('SCRIPT', 'FLUSH');
  expect(await counter.visit(newId())).toBe(2);
  await store.close();
});
