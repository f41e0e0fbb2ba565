/**
 * `retry` and `batch` let a service survive a short outage of what it depends on: they try again for a while, then
 * answer 503. A service gets both through its context; contract.ts says what they promise.
 */
import type { Batch, Retry } from '../contract.ts';
import { createBackoff } from './backoff.ts';

/** Milliseconds for which a request is tried again. */
export const retryBudget = 2_500;
/** Milliseconds for which a request may come again under its id: longer than all tries of nginx and `retry` take. */
export const deduplicationWindow = 30_000;

/** Milliseconds by which an attempt's deadline is earlier than its request's: a later result could not be sent in time. */
export const deadlineMargin = 100;
/** Milliseconds between two attempts: first and longest. */
const initialBackoff = 20;
const maxBackoff = 250;
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

/** What a client gets. The log also has the last failure, as the cause. */
const createRefusal = (cause: unknown) => new Unavailable('not available now, please try again', { cause });

/** Rejects with the error of `createError` if `work` takes longer than `limit` milliseconds. */
export async function withinTime<T>(work: Promise<T>, limit: number, createError: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(createError()), limit);
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
  let failure: unknown;
  async function tryUntilOver() {
    const backoff = createBackoff(initialBackoff, maxBackoff);
    for (;;) {
      try {
        return await attempt(deadline);
      } catch (cause) {
        if (over || isFinal(cause)) throw cause;
        failure = cause;
        await pause(backoff.next());
        if (over) throw cause;
      }
    }
  }
  try {
    return await withinTime(tryUntilOver(), retryBudget, () => createRefusal(failure));
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
  id: string;
  item: Item;
  /** Until when it may be committed, as Date.now() counts. */
  deadline: number;
  /** When it is answered 503, as performance.now() counts: no step of the clock makes it wait longer. */
  expires: number;
  result: Promise<Result>;
  resolve(result: Result): void;
  reject(error: Error): void;
}

/**
 * Those who wait, by id. Each leaves when it is answered, or by itself after `retryBudget` with the error of
 * `createError`. Of those who wait some are taken into a commit.
 */
function createQueue<Item, Result>(createError: () => Error) {
  type Entry = Waiting<Item, Result>;
  const queue = new Map<string, Entry>(); // the oldest first
  let free = new Set<Entry>(); // those of no commit under way, the oldest first
  const oldest = () => queue.values().next().value;
  let expiring = false;

  /** One timer for all: each waits equally long, so that the oldest is over first. */
  function expire(): void {
    const now = performance.now();
    for (let first = oldest(); first && first.expires <= now; first = oldest()) {
      queue.delete(first.id);
      free.delete(first);
      first.reject(createError());
    }
    const next = oldest();
    expiring = next !== undefined;
    if (next) setTimeout(expire, next.expires - now).unref();
  }

  return {
    size: () => queue.size,
    get: (id: string) => queue.get(id),
    add(waiting: Entry): void {
      queue.set(waiting.id, waiting);
      free.add(waiting);
      if (expiring) return;
      expiring = true;
      setTimeout(expire, retryBudget).unref();
    },
    /** The oldest ones, for one commit. */
    take(): Entry[] {
      const taken: Entry[] = [];
      for (const waiting of free) {
        if (taken.length === maxBatchSize) break;
        taken.push(waiting);
        free.delete(waiting);
      }
      return taken;
    },
    /** Their commit has failed: those who still wait are the next ones. */
    giveBack(taken: Entry[]): void {
      free = new Set([...taken.filter((waiting) => queue.get(waiting.id) === waiting), ...free]);
    },
    answer(waiting: Entry, result: Result): void {
      if (queue.get(waiting.id) === waiting) queue.delete(waiting.id); // or it is over, and its id may be back
      waiting.resolve(result);
    },
  };
}

export const batch: Batch = <Item, Result>(
  commit: (items: Item[], deadline: number) => Promise<Result[]>,
  { concurrency = 1 }: { concurrency?: number } = {},
) => {
  let failure: unknown;
  const queue = createQueue<Item, Result>(() => createRefusal(failure));
  let committing = 0;

  async function commitAll(): Promise<void> {
    const backoff = createBackoff(initialBackoff, maxBackoff);
    for (let taken = queue.take(); taken[0]; taken = queue.take()) {
      const [{ deadline }] = taken; // the earliest
      try {
        const items = taken.map(({ item }) => item);
        // One that never ends must not hold up all others for ever. After its deadline it changes nothing any more.
        const results = await withinTime(commit(items, deadline), retryBudget, () => createRefusal(failure));
        for (const [i, one] of taken.entries()) queue.answer(one, results[i] as Result);
        backoff.reset();
        failure = undefined;
        await new Promise(setImmediate); // requests that came meanwhile are read and join the next batch
      } catch (cause) {
        failure = cause;
        queue.giveBack(taken);
        await pause(backoff.next());
      }
    }
    committing -= 1;
  }

  return (id: string, item: Item) => {
    const known = queue.get(id);
    if (known) return known.result;
    if (queue.size() >= maxQueueSize) {
      return Promise.reject(new Unavailable('too many requests are waiting, please try again'));
    }
    const waiting = createWaiting<Item, Result>(id, item);
    queue.add(waiting);
    // The next turn of the event loop: every request that has arrived by then shares the batch.
    if (committing < concurrency) {
      committing += 1;
      setImmediate(commitAll);
    }
    return waiting.result;
  };
};

function createWaiting<Item, Result>(id: string, item: Item): Waiting<Item, Result> {
  const waiting = {
    id,
    item,
    deadline: Date.now() + retryBudget - deadlineMargin,
    expires: performance.now() + retryBudget,
  } as Waiting<Item, Result>;
  waiting.result = new Promise((resolve, reject) => {
    waiting.resolve = resolve;
    waiting.reject = reject;
  });
  return waiting;
}
