import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { createCounter } from '../../src/app/counter.ts';
import { createMemory } from '../../src/app/memory-store.ts';
import type { Store } from '../../src/app/store.ts';
import { batch, retryBudget, Unavailable } from '../../src/server/retry.ts';

// What `batch` does with failures of any kind is tested with it (test/server/retry.test.ts).

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

const context = { batch, metrics: { observe() {}, read: () => [], events: () => [], bounds: [] } };

/** A store that fails a given number of times, after it has counted. */
function createStore(failures = 0): Pick<Store, 'allocate'> & { batches: string[][] } {
  const { allocate } = createMemory(30_000);
  const batches: string[][] = [];
  let left = failures;
  return {
    batches,
    async allocate(ids) {
      batches.push(ids);
      const numbers = allocate(ids);
      left -= 1;
      if (left >= 0) throw new Error('the connection is lost');
      return numbers;
    },
  };
}

test('visits get the numbers from 1 on, in the order of their arrival', async () => {
  const counter = createCounter(createStore(), context);
  const visits = Promise.all(['a', 'b', 'c'].map(counter.visit));
  await jest.advanceTimersByTimeAsync(1);
  expect(await visits).toEqual([1, 2, 3]);
});

test('visits that wait together are one command to the store', async () => {
  const store = createStore();
  const counter = createCounter(store, context);
  const visits = Promise.all(['a', 'b', 'c', 'b'].map(counter.visit));
  await jest.advanceTimersByTimeAsync(1);
  expect(await visits).toEqual([1, 2, 3, 2]);
  expect(store.batches).toEqual([['a', 'b', 'c']]);
});

test('a visit whose number was lost on the way gets the same one at the next try', async () => {
  const store = createStore(3);
  const counter = createCounter(store, context);
  const visit = counter.visit('a');
  await jest.advanceTimersByTimeAsync(1_000);
  expect(await visit).toBe(1);
  expect(store.batches).toHaveLength(4);
  const next = counter.visit('b');
  await jest.advanceTimersByTimeAsync(1);
  expect(await next).toBe(2);
});

test('a visit that cannot be counted in time is answered by 503', async () => {
  const counter = createCounter({ allocate: () => Promise.reject(new Error('away')) }, context);
  const outcome = expect(counter.visit('a')).rejects.toBeInstanceOf(Unavailable);
  await jest.advanceTimersByTimeAsync(retryBudget);
  await outcome;
});
