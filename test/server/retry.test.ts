import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { batch, retry, retryBudget, Unavailable } from '../../src/server/retry.ts';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** What may become of a call: it may also fail after it has been done, or take longer than anybody waits. */
type Fate = { done: boolean; answered: boolean; milliseconds: number };

const lost: Fate = { done: true, answered: false, milliseconds: 0 };

const anyFate = fc.record({
  done: fc.boolean(),
  answered: fc.boolean(),
  milliseconds: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 4_000 })),
});

/** A queue at a ticket office: each name gets the next place, and a known name its first one. */
function createOffice(fates: Fate[] = []) {
  const places = new Map<string, number>();
  const calls: { names: string[]; at: number; deadline: number }[] = [];
  const begin = Date.now();
  let underWay = 0;
  let mostUnderWay = 0;
  async function enter(names: string[], deadline: number): Promise<number[]> {
    calls.push({ names, at: Date.now() - begin, deadline: deadline - begin });
    underWay += 1;
    mostUnderWay = Math.max(mostUnderWay, underWay);
    const fate: Fate = fates.shift() ?? { done: true, answered: true, milliseconds: 0 };
    if (fate.done) for (const name of names) if (!places.has(name)) places.set(name, places.size + 1);
    const result = names.map((name) => places.get(name) as number);
    if (fate.milliseconds > 0) await new Promise((resume) => setTimeout(resume, fate.milliseconds));
    underWay -= 1;
    if (!fate.done || !fate.answered) throw new Error('the connection is lost');
    return result;
  }
  return { enter, places, calls, mostUnderWay: () => mostUnderWay };
}

const fail = () => Promise.reject(new Error('away'));
const hang = () => new Promise<never>(() => {});
const outages = [
  ['fails', fail],
  ['hangs', hang],
] as const;

const refusal = { status: 503, expose: true, headers: { 'Retry-After': '1' } };

describe('retry', () => {
  test('hands on what the first attempt resolves to', async () => {
    const attempt = jest.fn(async () => 'fine');
    expect(await retry(attempt)).toBe('fine');
    expect(attempt).toHaveBeenCalledTimes(1);
    expect(jest.getTimerCount()).toBe(0);
  });

  test('tries again with pauses that grow', async () => {
    const { enter, calls } = createOffice([lost, lost, lost, lost]);
    const result = retry(async (deadline) => enter(['only'], deadline));
    await jest.advanceTimersByTimeAsync(1_000);
    expect(await result).toEqual([1]);
    expect(calls.map(({ at }) => at)).toEqual([0, 20, 60, 140, 300]);
  });

  test('gives each attempt the time at which its client has the 503: it must change nothing after that', async () => {
    const { enter, calls } = createOffice([lost, lost]);
    const result = retry(async (deadline) => enter(['only'], deadline));
    await jest.advanceTimersByTimeAsync(100);
    await result;
    for (const { deadline } of calls) expect(deadline).toBe(2_400);
  });

  test.each(outages)('gives up after 2.5 s if the attempt %s', async (_, attempt) => {
    let outcome: unknown;
    retry(attempt).catch((error) => {
      outcome = error;
    });
    await jest.advanceTimersByTimeAsync(2_499);
    expect(outcome).toBeUndefined();
    await jest.advanceTimersByTimeAsync(1);
    expect(outcome).toBeInstanceOf(Unavailable);
    expect(outcome).toMatchObject(refusal);
  });

  test('logs why it has given up; the client gets only the 503', async () => {
    const outcome = retry(fail).catch((error) => error);
    await jest.advanceTimersByTimeAsync(retryBudget);
    expect(await outcome).toMatchObject({
      ...refusal,
      message: 'not available now, please try again',
      cause: new Error('away'),
    });
  });

  test('leaves what is away alone once it has given up', async () => {
    const attempt = jest.fn(fail);
    retry(attempt).catch(() => {});
    await jest.advanceTimersByTimeAsync(retryBudget);
    const tries = attempt.mock.calls.length;
    expect(tries).toBeLessThan(20);
    await jest.advanceTimersByTimeAsync(60_000);
    expect(attempt).toHaveBeenCalledTimes(tries);
    expect(jest.getTimerCount()).toBe(0);
  });

  test.each([400, 404, 409, 422])(
    "takes an error with status %i for the request's answer",
    async (status) => {
      const attempt = jest.fn(() => Promise.reject(Object.assign(new Error('taken'), { status })));
      await expect(retry(attempt)).rejects.toMatchObject({ status, message: 'taken' });
      expect(attempt).toHaveBeenCalledTimes(1);
    },
  );

  test.each([
    ['status 500', Object.assign(new Error(), { status: 500 })],
    ['no status', new Error()],
    ['no reason', undefined],
  ])('takes an error with %s for an outage', async (_, error) => {
    const attempt = jest.fn(() => Promise.reject(error));
    const outcome = expect(retry(attempt)).rejects.toBeInstanceOf(Unavailable);
    await jest.advanceTimersByTimeAsync(retryBudget);
    await outcome;
    expect(attempt.mock.calls.length).toBeGreaterThan(5);
  });

  test('whatever becomes of the attempts, it settles within 2.5 s, one attempt at a time', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyFate, { maxLength: 15 }), async (fates) => {
        const { enter, places, mostUnderWay } = createOffice([...fates]);
        const begin = Date.now();
        const outcome = retry((deadline) => enter(['only'], deadline)).then(
          ([place]) => expect(place).toBe(1),
          (error) => expect(error).toBeInstanceOf(Unavailable),
        );
        const took = outcome.then(() => Date.now() - begin);
        await jest.advanceTimersByTimeAsync(retryBudget);
        expect(await took).toBeLessThanOrEqual(retryBudget);
        await jest.advanceTimersByTimeAsync(4_000); // the last attempt ends
        expect(mostUnderWay()).toBe(1);
        expect(places.size).toBeLessThanOrEqual(1);
        expect(jest.getTimerCount()).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});

describe('batch', () => {
  /** Names that enter together, each as its own idempotency key. */
  function createQueue(enter: (names: string[], deadline: number) => Promise<number[]>, concurrency = 1) {
    const add = batch(enter, { concurrency });
    return (name: string) => add(name, name);
  }
  const range = (n: number) => Array.from({ length: n }, (_, i) => i);

  test.each([1, 3])(
    'any interleaving of requests, repeated ids and failing commits, %i at once, does each once and loses none',
    async (concurrency) => {
      const request = fc.record({
        name: fc.integer({ min: 0, max: 30 }).map(String), // few, so that some are repeated
        pause: fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 0, max: 1_000 })),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.array(request, { maxLength: 40 }),
          fc.array(anyFate, { maxLength: 12 }),
          async (requests, fates) => {
            const isAbandoned = fates.some(({ milliseconds }) => milliseconds > retryBudget);
            const { enter, places, calls, mostUnderWay } = createOffice(fates);
            const add = createQueue(enter, concurrency);
            const answers = new Map<string, number>();
            const outcomes: Promise<void>[] = [];
            for (const { name, pause } of requests) {
              const begin = Date.now();
              const outcome = add(name).then(
                (place) => {
                  expect(answers.get(name) ?? place).toBe(place); // the same id, the same result
                  answers.set(name, place);
                },
                (error) => expect(error).toBeInstanceOf(Unavailable),
              );
              outcomes.push(outcome.then(() => expect(Date.now() - begin).toBeLessThanOrEqual(retryBudget)));
              await jest.advanceTimersByTimeAsync(pause);
            }
            await jest.advanceTimersByTimeAsync(retryBudget);
            await Promise.all(outcomes);
            await jest.advanceTimersByTimeAsync(4_500); // the last commit ends

            expect(mostUnderWay()).toBeLessThanOrEqual(isAbandoned ? 2 * concurrency : concurrency);
            for (const { names } of calls) expect(new Set(names).size).toBe(names.length);
            // Everybody has the place that was given to them, not a neighbour's.
            for (const [name, place] of answers) expect(place).toBe(places.get(name));
            // Who comes next gets the next place: nothing was done twice, and none that was given is lost.
            fates.length = 0;
            const next = add('the next one');
            await jest.advanceTimersByTimeAsync(1);
            expect(await next).toBe(places.size);
          },
        ),
        { numRuns: 300 },
      );
    },
  );

  test('without failures each gets its result, in the order of their arrival', async () => {
    const { enter } = createOffice();
    const add = createQueue(enter);
    const results = range(2_500).map((i) => add(`request ${i}`));
    await jest.advanceTimersByTimeAsync(10);
    expect(await Promise.all(results)).toEqual(range(2_500).map((i) => i + 1));
  });

  test('an item need not be its own id', async () => {
    const add = batch(async (items: { amount: number }[]) => items.map(({ amount }) => 2 * amount));
    const results = Promise.all([add('a', { amount: 1 }), add('b', { amount: 1 }), add('c', { amount: 3 })]);
    await jest.advanceTimersByTimeAsync(1);
    expect(await results).toEqual([2, 2, 6]);
  });

  test('an id that waits already shares the result of the one that waits', async () => {
    const { enter, calls } = createOffice();
    const add = createQueue(enter);
    const results = Promise.all([add('same'), add('same'), add('other')]);
    await jest.advanceTimersByTimeAsync(1);
    expect(await results).toEqual([1, 1, 2]);
    expect(calls.map(({ names }) => names)).toEqual([['same', 'other']]);
  });

  test('what waits at the same time is committed together, at most a thousand at once', async () => {
    const { enter, calls } = createOffice();
    const add = createQueue(enter);
    const results = range(2_500).map((i) => add(`request ${i}`));
    await jest.advanceTimersByTimeAsync(10);
    await Promise.all(results);
    expect(calls.map(({ names }) => names.length)).toEqual([1_000, 1_000, 500]);
  });

  test('what arrives during a commit shares the next one', async () => {
    const { enter, calls } = createOffice([{ done: true, answered: true, milliseconds: 50 }]);
    const add = createQueue(enter);
    const first = add('first');
    await jest.advanceTimersByTimeAsync(10);
    const others = Promise.all([add('second'), add('third')]);
    expect(calls.map(({ names }) => names)).toEqual([['first']]);
    await jest.advanceTimersByTimeAsync(50);
    expect(await first).toBe(1);
    expect(await others).toEqual([2, 3]);
    expect(calls[1]?.names).toEqual(['second', 'third']);
  });

  test('what arrives during a commit is committed beside it where several are allowed, but no more', async () => {
    const slow = { done: true, answered: true, milliseconds: 50 };
    const { enter, calls } = createOffice([slow, slow]);
    const add = createQueue(enter, 2);
    const results: Promise<number>[] = [];
    for (const name of ['first', 'second', 'third', 'fourth']) {
      results.push(add(name));
      await jest.advanceTimersByTimeAsync(10);
    }
    expect(calls.map(({ names }) => names)).toEqual([['first'], ['second']]);
    await jest.advanceTimersByTimeAsync(50);
    expect(await Promise.all(results)).toEqual([1, 2, 3, 4]);
    expect(calls[2]?.names).toEqual(['third', 'fourth']);
  });

  test('a failed commit is tried again, with pauses that grow', async () => {
    const { enter, calls } = createOffice([lost, lost, lost, lost]);
    const result = createQueue(enter)('only');
    await jest.advanceTimersByTimeAsync(1_000);
    expect(await result).toBe(1);
    expect(calls.map(({ at }) => at)).toEqual([0, 20, 60, 140, 300]);
  });

  test('the deadline of a commit is that of its oldest request', async () => {
    const { enter, calls } = createOffice([lost]);
    const add = createQueue(enter);
    const results = [add('first')];
    await jest.advanceTimersByTimeAsync(10);
    results.push(add('second'));
    await jest.advanceTimersByTimeAsync(100);
    await Promise.all(results);
    expect(calls.map(({ names, deadline }) => ({ names, deadline }))).toEqual([
      { names: ['first'], deadline: 2_400 },
      { names: ['first', 'second'], deadline: 2_400 },
    ]);
  });

  test.each(outages)('a request is given up after 2.5 s if the commit %s', async (_, commit) => {
    let outcome: unknown;
    createQueue(commit)('only').catch((error) => {
      outcome = error;
    });
    await jest.advanceTimersByTimeAsync(2_499);
    expect(outcome).toBeUndefined();
    await jest.advanceTimersByTimeAsync(1);
    expect(outcome).toBeInstanceOf(Unavailable);
    expect(outcome).toMatchObject(refusal);
  });

  test('the log says why a request was given up', async () => {
    const outcome = createQueue(fail)('only').catch((error) => error);
    await jest.advanceTimersByTimeAsync(retryBudget);
    expect(await outcome).toMatchObject({ ...refusal, cause: new Error('away') });
  });

  test('an id that comes again after it was given up is answered, whenever the hanging commit ends', async () => {
    const { enter } = createOffice([{ done: true, answered: true, milliseconds: 4_000 }]);
    const add = createQueue(enter);
    const first = add('again').catch((error) => error);
    await jest.advanceTimersByTimeAsync(3_000);
    expect(await first).toBeInstanceOf(Unavailable);
    const second = add('again');
    await jest.advanceTimersByTimeAsync(2_000);
    expect(await second).toBe(1);
  });

  test('a commit that never ends holds up others for 2.5 s, and no longer', async () => {
    const { enter } = createOffice();
    const commit = jest.fn(enter).mockImplementationOnce(hang);
    const add = createQueue(commit);
    const first = add('first').catch((error) => error);
    await jest.advanceTimersByTimeAsync(1_000);
    const second = add('second');
    await jest.advanceTimersByTimeAsync(retryBudget);
    expect(await first).toBeInstanceOf(Unavailable);
    expect(await second).toBe(1);
  });

  test('what is away is left alone once nobody waits', async () => {
    const commit = jest.fn(fail);
    createQueue(commit)('only').catch(() => {});
    await jest.advanceTimersByTimeAsync(retryBudget + 500);
    const tries = commit.mock.calls.length;
    expect(tries).toBeLessThan(20);
    await jest.advanceTimersByTimeAsync(60_000);
    expect(commit).toHaveBeenCalledTimes(tries);
    expect(jest.getTimerCount()).toBe(0);
  });

  test('of requests without an end at most 10,000 wait, and the next is refused at once', async () => {
    const add = createQueue(hang);
    const refused = jest.fn();
    for (const i of range(10_000)) add(`request ${i}`).catch(() => {});
    await expect(add('one too many')).rejects.toMatchObject(refusal);
    add('request 17').catch(refused); // waits already
    await jest.advanceTimersByTimeAsync(100);
    expect(refused).not.toHaveBeenCalled();
    await jest.advanceTimersByTimeAsync(retryBudget);
    expect(refused).toHaveBeenCalled();
  });
});
