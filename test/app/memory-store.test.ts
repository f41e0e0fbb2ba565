import { EventEmitter } from 'node:events';
import { expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { answerChannel, createMemory, openMemoryStore } from '../../src/app/memory-store.ts';
import type { Channel } from '../../src/contract.ts';

const deduplicationWindow = 30_000;

/** Both ends of an IPC channel, in one process. */
function createChannel(): { worker: Channel; primary: Channel & { connected: boolean } } {
  const atPrimary = new EventEmitter();
  const atWorker = new EventEmitter();
  const carry = (to: EventEmitter) => (message: object, done?: (error: Error | null) => void) => {
    const copy = structuredClone(message);
    setImmediate(() => {
      to.emit('message', copy);
      done?.(null);
    });
    return true;
  };
  return {
    worker: Object.assign(atPrimary, { send: carry(atWorker) }),
    primary: Object.assign(atWorker, { send: carry(atPrimary), connected: true }),
  };
}

const soon = Number.MAX_SAFE_INTEGER;

test('new ids get the next numbers, known ids their first ones', () => {
  const ids = fc.array(fc.uniqueArray(fc.integer({ min: 0, max: 40 }).map(String), { maxLength: 10 }), {
    maxLength: 20,
  });
  fc.assert(
    fc.property(ids, (batches) => {
      const { allocate } = createMemory(deduplicationWindow);
      const known = new Map<string, number>();
      for (const batch of batches) {
        const numbers = allocate(batch);
        for (const [i, id] of batch.entries()) {
          if (!known.has(id)) known.set(id, known.size + 1);
          expect(numbers[i]).toBe(known.get(id));
        }
      }
    }),
  );
});

test('an id is remembered for the deduplication window and then forgotten', () => {
  let now = 1_000;
  const { allocate } = createMemory(deduplicationWindow, () => now);
  expect(allocate(['a', 'b'])).toEqual([1, 2]);
  now += deduplicationWindow - 1;
  expect(allocate(['a'])).toEqual([1]);
  now += 1;
  expect(allocate(['a', 'b'])).toEqual([3, 4]);
});

test('no more ids are remembered than came within the deduplication window', () => {
  const set = jest.spyOn(Map.prototype, 'set');
  try {
    let now = 0;
    const { allocate } = createMemory(deduplicationWindow, () => now);
    for (; now < 3 * deduplicationWindow; now += 10) allocate([String(now)]);
    const memory = set.mock.contexts.at(-1) as Map<string, unknown>;
    expect(memory.has(String(now - 10))).toBe(true);
    expect(memory.size).toBe(deduplicationWindow / 10);
  } finally {
    set.mockRestore();
  }
});

test('workers that ask over their channels share one count', async () => {
  const memory = createMemory(deduplicationWindow);
  const stores = [1, 2, 3].map(() => {
    const { worker, primary } = createChannel();
    answerChannel(worker, memory);
    return openMemoryStore(primary);
  });
  const calls = Array.from({ length: 60 }, (_, i) => stores[i % 3]?.allocate([`a${i}`, `b${i}`], soon) ?? []);
  const numbers = (await Promise.all(calls)).flat();
  expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
});

test('other messages on the channel are left to others', async () => {
  const { worker, primary } = createChannel();
  const memory = createMemory(deduplicationWindow);
  const allocate = jest.spyOn(memory, 'allocate');
  answerChannel(worker, memory);
  const store = openMemoryStore(primary);
  primary.send?.({ type: 'heartbeat' });
  worker.send?.({ type: 'retire' });
  expect(await store.allocate(['a'], soon)).toEqual([1]);
  expect(allocate).toHaveBeenCalledTimes(1);
});

test('an allocation that cannot be sent is rejected, and a store without its primary is not ready', async () => {
  const { primary } = createChannel();
  const store = openMemoryStore(
    Object.assign(primary, {
      connected: false,
      send(_: object, done?: (error: Error | null) => void) {
        done?.(new Error('channel closed'));
        return false;
      },
    }),
  );
  await expect(store.allocate(['a'], soon)).rejects.toThrow('channel closed');
  await expect(store.ready()).rejects.toThrow('primary');
});

test('an allocation whose deadline has passed counts nothing and is rejected', async () => {
  const { worker, primary } = createChannel();
  const memory = createMemory(deduplicationWindow);
  const allocate = jest.spyOn(memory, 'allocate');
  answerChannel(worker, memory);
  await expect(openMemoryStore(primary).allocate(['a'], Date.now() - 1)).rejects.toThrow('deadline');
  expect(allocate).not.toHaveBeenCalled();
});

test('a worker that is gone is no matter to the primary', async () => {
  const atPrimary = new EventEmitter();
  const send = (_: object, done?: (error: Error | null) => void) => {
    done?.(new Error('channel closed'));
    return false;
  };
  answerChannel(Object.assign(atPrimary, { send }), createMemory(deduplicationWindow));
  expect(() =>
    atPrimary.emit('message', { type: 'allocate', call: 1, question: { ids: ['a'], deadline: soon } }),
  ).not.toThrow();
});
