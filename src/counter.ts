/**
 * What is counted: visits, each exactly once. REPLACE THIS by your own service.
 *
 * Visits that wait at the same time are committed together, and at most one commit is under way: the busier
 * the worker, the fewer the commands a visit. A visit carries an id, and the store answers a repeated id with
 * its first number, so a commit whose outcome is unknown can simply be sent again.
 */

import type { Store } from './store.ts';

export interface Counter {
  /**
   * Counts the visit and resolves to its number: 1, 2, 3 … without a gap or a repetition, whatever the number
   * of workers. The same id again gets the same number and counts nothing.
   *
   * @throws {CounterUnavailable} after retryBudget without an answer, or at once if too many visits wait.
   */
  hit(id: string): Promise<number>;
  /** @throws {CounterUnavailable} if the store does not answer within readyTimeout. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

/** Milliseconds for which a visit is retried: the tutorial's five times half a second. */
export const retryBudget = 2_500;
const answerTime = 100; // milliseconds before a visit is given up in which it is no more counted: its number would be late
const readyTimeout = 500;
const longestQueue = 10_000; // visits; a worker that is so far behind says so
const largestCommit = 1_000; // visits; keeps each step in the store short
const firstPause = 20; // milliseconds; doubled by each failure in a row
const longestPause = 250;

/** Koa answers an error by its `status` and `headers`, and shows the message to the client if `expose` is set. */
export class CounterUnavailable extends Error {
  override name = 'CounterUnavailable';
  status = 503;
  expose = true;
  headers = { 'Retry-After': '1' };
}

interface Visit {
  id: string;
  /** Until when it may be counted, as Date.now() counts. */
  deadline: number;
  number: Promise<number>;
  resolve(number: number): void;
  reject(error: Error): void;
}

/** A counter on a store, which it closes at its own end. */
export function createCounter(store: Store): Counter {
  const waiting = new Map<string, Visit>(); // by id, the oldest first; a visit stays until it is answered
  let working = false;

  function hit(id: string): Promise<number> {
    const known = waiting.get(id);
    if (known) return known.number;
    if (waiting.size >= longestQueue) {
      return Promise.reject(new CounterUnavailable('too many visits are waiting to be counted'));
    }
    const visit = newVisit(id);
    waiting.set(id, visit);
    const expiry = setTimeout(() => {
      visit.reject(new CounterUnavailable('the visit could not be counted, please try again'));
    }, retryBudget);
    const settled = () => {
      clearTimeout(expiry);
      waiting.delete(id);
    };
    visit.number.then(settled, settled);
    // The next turn of the event loop: every visit that has arrived by then shares the commit.
    if (!working) {
      working = true;
      setImmediate(work);
    }
    return visit.number;
  }

  async function work(): Promise<void> {
    let pause = firstPause;
    while (waiting.size > 0) {
      const batch = [...waiting.values()].slice(0, largestCommit);
      try {
        const [{ deadline }] = batch as [Visit]; // the earliest
        const numbers = await store.commit(
          batch.map((visit) => visit.id),
          deadline,
        );
        for (const [i, visit] of batch.entries()) visit.resolve(numbers[i] as number);
        pause = firstPause;
        // Answered visits leave `waiting` in microtasks, and visits that came meanwhile join the next commit.
        await new Promise(setImmediate);
      } catch {
        await new Promise((resume) => setTimeout(resume, pause));
        pause = Math.min(2 * pause, longestPause);
      }
    }
    working = false;
  }

  async function ready(): Promise<void> {
    let expiry: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      expiry = setTimeout(() => reject(new Error(`no answer within ${readyTimeout} ms`)), readyTimeout);
    });
    try {
      await Promise.race([store.ping(), late]);
    } catch (cause) {
      throw new CounterUnavailable('the counter is not available', { cause });
    } finally {
      clearTimeout(expiry);
    }
  }

  return { hit, ready, close: () => store.close() };
}

function newVisit(id: string): Visit {
  let settle: Pick<Visit, 'resolve' | 'reject'> | undefined;
  const number = new Promise<number>((resolve, reject) => {
    settle = { resolve, reject };
  });
  const deadline = Date.now() + retryBudget - answerTime;
  return { id, deadline, number, ...(settle as Pick<Visit, 'resolve' | 'reject'>) };
}
