/**
 * `retry` and `batch` let a service survive a short outage of what it depends on: they try again for a while, then
 * answer 503. A service gets both through its context; app/service.ts says what they promise.
 */
import type { Batch, Retry } from '../app/service.ts';
import { createBackoff } from './backoff.ts';

/** Milliseconds for which a request is tried again. */
export const retryBudget = 2_500;
/** Milliseconds for which a request may come again under its id: longer than all tries of nginx and `retry` take. */
export const deduplicationWindow = 30_000;

/** Milliseconds by which an attempt's deadline is earlier than its request's: a later result could not be sent in time. */
export const deadlineMargin = 100;
/** Milliseconds between two attempts: first and longest. */
export const initialBackoff = 20;
export const maxBackoff = 250;
const maxQueueSize = 10_000; // items; the next one is answered 503 at once
const maxBatchSize = 1_000; // items; a store is busy with one batch for a short time only

/** Koa answers an error by its `status` and `headers`, and shows the message to the client if `expose` is set. */
export class Unavailable extends Error {
  override name = 'Unavailable';
  status = 503;
  expose = true;
  headers = { 'Retry-After': '1' };
}

const pause = (milliseconds: number) => new Promise<void>((resume) => setTimeout(resume, milliseconds));

/** Rejects with Unavailable if `work` takes longer than `limit` milliseconds. */
export async function withinTime<T>(work: Promise<T>, limit: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Unavailable(message)), limit);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export const retry: Retry = async (attempt) => {
  const deadline = Date.now() + retryBudget - deadlineMargin;
  let over = false;
  async function tryUntilOver() {
    const backoff = createBackoff(initialBackoff, maxBackoff);
    for (;;) {
      try {
        return await attempt(deadline);
      } catch (cause) {
        if (over || isFinal(cause)) throw cause;
        await pause(backoff.next());
        if (over) throw cause;
      }
    }
  }
  try {
    return await withinTime(tryUntilOver(), retryBudget, 'not available now, please try again');
  } finally {
    over = true;
  }
};

/** An error with a status below 500 is an answer, not an outage. */
function isFinal(error: unknown): boolean {
  const status = (error as { status?: unknown } | null)?.status;
  return typeof status === 'number' && status < 500;
}

interface Waiting<Item, Result> {
  item: Item;
  /** Until when it may be committed, as Date.now() counts. */
  deadline: number;
  result: Promise<Result>;
  resolve(result: Result): void;
}

export const batch: Batch = <Item, Result>(
  commit: (items: Item[], deadline: number) => Promise<Result[]>,
) => {
  const queue = new Map<string, Waiting<Item, Result>>(); // by id, the oldest first; one stays until it is answered
  let working = false;

  function add(id: string, item: Item): Promise<Result> {
    const waiting = createWaiting<Item, Result>(item);
    queue.set(id, waiting);
    const remove = () => queue.delete(id);
    waiting.result.then(remove, remove);
    return waiting.result;
  }

  async function work(): Promise<void> {
    const backoff = createBackoff(initialBackoff, maxBackoff);
    while (queue.size > 0) {
      const waiting = [...queue.values()].slice(0, maxBatchSize);
      try {
        const [{ deadline }] = waiting as [Waiting<Item, Result>]; // the earliest
        const results = await commit(
          waiting.map(({ item }) => item),
          deadline,
        );
        for (const [i, { resolve }] of waiting.entries()) resolve(results[i] as Result);
        backoff.reset();
        // Answered items leave the queue in microtasks; requests that came meanwhile are read and join the next batch.
        await new Promise(setImmediate);
      } catch {
        await pause(backoff.next());
      }
    }
    working = false;
  }

  return (id: string, item: Item) => {
    const waiting = queue.get(id);
    if (waiting) return waiting.result;
    if (queue.size >= maxQueueSize) {
      return Promise.reject(new Unavailable('too many requests are waiting, please try again'));
    }
    const result = add(id, item);
    // The next turn of the event loop: every request that has arrived by then shares the batch.
    if (!working) {
      working = true;
      setImmediate(work);
    }
    return result;
  };
};

/** Its result is rejected by itself when the time is over. */
function createWaiting<Item, Result>(item: Item): Waiting<Item, Result> {
  let resolve: ((result: Result) => void) | undefined;
  const result = new Promise<Result>((settle, reject) => {
    const timer = setTimeout(() => {
      reject(new Unavailable('not available now, please try again'));
    }, retryBudget);
    resolve = (value) => {
      clearTimeout(timer);
      settle(value);
    };
  });
  const deadline = Date.now() + retryBudget - deadlineMargin;
  return { item, deadline, result, resolve: resolve as never };
}
