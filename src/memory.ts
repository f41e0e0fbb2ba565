/**
 * The store for a first look, on a machine without Redis: the count lives in the primary process, and workers
 * ask it over the IPC channel that cluster keeps to each. Lost when the primary ends.
 */
import type { EventEmitter } from 'node:events';
import { retryWindow, type Store } from './store.ts';

interface Question {
  type: 'commit';
  call: number;
  ids: string[];
  deadline: number;
}

interface Answer {
  type: 'committed';
  call: number;
  /** Absent: the deadline had passed. */
  numbers?: number[];
}

/** The two ends of an IPC channel look alike: `process` in a worker, `worker` in the primary. */
export type Channel = Pick<EventEmitter, 'on'> & {
  send?(message: object, done?: (error: Error | null) => void): boolean;
  connected?: boolean;
};

/** The count itself, kept in the primary: what Store.commit promises, at once. */
export function createMemory(now: () => number = Date.now): (ids: string[]) => number[] {
  let count = 0;
  const remembered = new Map<string, { number: number; until: number }>(); // the oldest first
  return (ids) => {
    for (const [id, { until }] of remembered) {
      if (until > now()) break;
      remembered.delete(id);
    }
    return ids.map((id) => {
      const known = remembered.get(id);
      if (known) return known.number;
      count += 1;
      remembered.set(id, { number: count, until: now() + retryWindow });
      return count;
    });
  };
}

/** In the primary: answers the commits that arrive over one worker's channel. */
export function answerCommits(worker: Channel, commit: (ids: string[]) => number[]): void {
  worker.on('message', (message: Question) => {
    if (message.type !== 'commit') return;
    const answer: Answer = { type: 'committed', call: message.call };
    if (Date.now() <= message.deadline) answer.numbers = commit(message.ids);
    worker.send?.(answer, () => {}); // a worker that died meanwhile: its ids are remembered
  });
}

/** In a worker: the store whose commits go to the primary. */
export function openMemoryStore(primary: Channel): Store {
  const calls = new Map<number, (numbers?: number[]) => void>();
  let last = 0;
  primary.on('message', (message: Answer) => {
    if (message.type !== 'committed') return;
    calls.get(message.call)?.(message.numbers);
    calls.delete(message.call);
  });
  return {
    commit: (ids, deadline) =>
      new Promise((resolve, reject) => {
        last += 1;
        const call = last;
        calls.set(call, (numbers) =>
          numbers ? resolve(numbers) : reject(new Error('the deadline has passed')),
        );
        const question: Question = { type: 'commit', call, ids, deadline };
        primary.send?.(question, (error) => {
          if (!error) return;
          calls.delete(call);
          reject(error);
        });
      }),
    async ping() {
      if (!primary.connected) throw new Error('the primary process is gone');
    },
    async close() {},
  };
}
