import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { CounterUnavailable, createCounter, retryBudget } from '../../src/counter.ts';
import { createMemory } from '../../src/memory.ts';
import type { Store } from '../../src/store.ts';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** What may become of a commit: it may also fail after it has been done, or take longer than visits wait. */
type Fate = { done: boolean; answered: boolean; milliseconds: number };

/** A store whose commits meet the given fates, and after those all succeed at once. */
function createStore(fates: Fate[] = []) {
  const commit = createMemory(() => 0); // forgets nothing
  const batches: string[][] = [];
  const counted = new Set<string>();
  let underWay = 0;
  let most = 0;
  const store: Store = {
    async commit(ids) {
      batches.push(ids);
      underWay += 1;
      most = Math.max(most, underWay);
      const fate: Fate = fates.shift() ?? { done: true, answered: true, milliseconds: 0 };
      const numbers = fate.done ? commit(ids) : [];
      if (fate.done) for (const id of ids) counted.add(id);
      if (fate.milliseconds > 0) await new Promise((resume) => setTimeout(resume, fate.milliseconds));
      underWay -= 1;
      if (!fate.done || !fate.answered) throw new Error('the connection is lost');
      return numbers;
    },
    async ping() {},
    async close() {},
  };
  return { store, batches, counted, mostUnderWay: () => most };
}

const failing = (): Store => ({
  commit: () => Promise.reject(new Error('away')),
  ping: () => Promise.reject(new Error('away')),
  close: async () => {},
});
const hanging = (): Store => ({
  commit: () => new Promise(() => {}),
  ping: () => new Promise(() => {}),
  close: async () => {},
});

test('any interleaving of visits, repeated ids and failing commits numbers each visit once and leaves no gap', async () => {
  const fate = fc.record({
    done: fc.boolean(),
    answered: fc.boolean(),
    milliseconds: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4_000 })),
  });
  const visit = fc.record({
    id: fc.integer({ min: 0, max: 30 }).map(String), // few, so that some are repeated
    pause: fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 0, max: 1_000 })),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(visit, { maxLength: 40 }),
      fc.array(fate, { maxLength: 12 }),
      async (visits, fates) => {
        const { store, batches, counted, mostUnderWay } = createStore(fates);
        const counter = createCounter(store);
        const numbers = new Map<string, number>();
        const outcomes: Promise<void>[] = [];
        for (const { id, pause } of visits) {
          const begin = Date.now();
          const outcome = counter.hit(id).then(
            (number) => {
              expect(numbers.get(id) ?? number).toBe(number); // the same id, the same number
              numbers.set(id, number);
            },
            (error) => expect(error).toBeInstanceOf(CounterUnavailable),
          );
          outcomes.push(outcome.then(() => expect(Date.now() - begin).toBeLessThanOrEqual(retryBudget)));
          await jest.advanceTimersByTimeAsync(pause);
        }
        await jest.advanceTimersByTimeAsync(retryBudget);
        await Promise.all(outcomes);
        await jest.advanceTimersByTimeAsync(4_500); // the last commit ends

        expect(mostUnderWay()).toBeLessThanOrEqual(1);
        for (const batch of batches) expect(new Set(batch).size).toBe(batch.length);
        // Nobody shares a number, and none is larger than the number of visits counted.
        expect(new Set(numbers.values()).size).toBe(numbers.size);
        for (const number of numbers.values()) expect(number).toBeLessThanOrEqual(counted.size);
        // What comes next gets the next number: nothing was counted twice and no number was lost.
        fates.length = 0;
        const next = counter.hit('the next one');
        await jest.advanceTimersByTimeAsync(1);
        expect(await next).toBe(counted.size);
      },
    ),
    { numRuns: 300 },
  );
});

test('without failures N visits get exactly 1 to N, in the order of their arrival', async () => {
  const { store } = createStore();
  const counter = createCounter(store);
  const visits = Array.from({ length: 2_500 }, (_, i) => counter.hit(`visit ${i}`));
  await jest.advanceTimersByTimeAsync(10);
  expect(await Promise.all(visits)).toEqual(visits.map((_, i) => i + 1));
});

test('visits that wait at the same time are committed together, at most a thousand of them', async () => {
  const { store, batches } = createStore();
  const counter = createCounter(store);
  const visits = Array.from({ length: 2_500 }, (_, i) => counter.hit(`visit ${i}`));
  await jest.advanceTimersByTimeAsync(10);
  await Promise.all(visits);
  expect(batches.map((batch) => batch.length)).toEqual([1_000, 1_000, 500]);
});

test('visits that arrive during a commit share the next one', async () => {
  const { store, batches } = createStore([{ done: true, answered: true, milliseconds: 50 }]);
  const counter = createCounter(store);
  const first = counter.hit('first');
  await jest.advanceTimersByTimeAsync(10);
  const others = Promise.all([counter.hit('second'), counter.hit('third')]);
  expect(batches).toEqual([['first']]);
  await jest.advanceTimersByTimeAsync(50);
  expect(await first).toBe(1);
  expect(await others).toEqual([2, 3]);
  expect(batches[1]).toEqual(['second', 'third']);
});

test('a visit whose commit failed is committed again, with pauses that grow', async () => {
  const lost = { done: true, answered: false, milliseconds: 0 };
  const { store, batches } = createStore([lost, lost, lost, lost]);
  const begin = Date.now();
  const times: number[] = [];
  const counter = createCounter({
    ...store,
    commit(ids, deadline) {
      times.push(Date.now() - begin);
      return store.commit(ids, deadline);
    },
  });
  const visit = counter.hit('only');
  await jest.advanceTimersByTimeAsync(1_000);
  expect(await visit).toBe(1);
  expect(batches).toHaveLength(5);
  expect(times).toEqual([0, 20, 60, 140, 300]);
});

test.each([
  ['is away', failing],
  ['never answers', hanging],
])('a visit is given up after 2.5 s if the store %s', async (_, create) => {
  const counter = createCounter(create());
  let outcome: unknown;
  counter.hit('only').catch((error) => {
    outcome = error;
  });
  await jest.advanceTimersByTimeAsync(2_499);
  expect(outcome).toBeUndefined();
  await jest.advanceTimersByTimeAsync(1);
  expect(outcome).toBeInstanceOf(CounterUnavailable);
  expect(outcome).toMatchObject({ status: 503, expose: true, headers: { 'Retry-After': '1' } });
});

test('a store that is away is left alone once nobody waits', async () => {
  const store = failing();
  const commit = jest.spyOn(store, 'commit');
  const counter = createCounter(store);
  counter.hit('only').catch(() => {});
  await jest.advanceTimersByTimeAsync(retryBudget + 500);
  const tries = commit.mock.calls.length;
  expect(tries).toBeLessThan(20);
  await jest.advanceTimersByTimeAsync(60_000);
  expect(commit).toHaveBeenCalledTimes(tries);
  expect(jest.getTimerCount()).toBe(0);
});

test('of visits without an end at most 10,000 wait, and the next is refused at once', async () => {
  const counter = createCounter(hanging());
  const refused = jest.fn();
  for (let i = 0; i < 10_000; i++) counter.hit(`visit ${i}`).catch(() => {});
  await expect(counter.hit('one too many')).rejects.toMatchObject({ status: 503 });
  counter.hit('visit 17').catch(refused); // waits already
  await jest.advanceTimersByTimeAsync(100);
  expect(refused).not.toHaveBeenCalled();
  await jest.advanceTimersByTimeAsync(retryBudget);
  expect(refused).toHaveBeenCalled();
});

test('ready is what the store says', async () => {
  await expect(createCounter(createStore().store).ready()).resolves.toBeUndefined();
  await expect(createCounter(failing()).ready()).rejects.toBeInstanceOf(CounterUnavailable);
  expect(jest.getTimerCount()).toBe(0);
});

test('a store that does not answer within half a second is not ready', async () => {
  const outcome = expect(createCounter(hanging()).ready()).rejects.toBeInstanceOf(CounterUnavailable);
  await jest.advanceTimersByTimeAsync(500);
  await outcome;
});

test('a counter that is closed closes its store', async () => {
  const { store } = createStore();
  const close = jest.spyOn(store, 'close');
  await createCounter(store).close();
  expect(close).toHaveBeenCalledTimes(1);
});
