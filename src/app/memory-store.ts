/**
 * The store for a first look, on a machine without Redis. The count lives in the primary process and is lost when that
 * ends; workers ask for numbers over their IPC channels.
 */
import type { Channel } from './service.ts';
import type { Store } from './store.ts';

interface AllocationRequest {
  type: 'allocate';
  call: number;
  ids: string[];
  deadline: number;
}

interface AllocationResponse {
  type: 'allocated';
  call: number;
  /** Absent: the deadline had passed. */
  numbers?: number[];
}

/** The count itself, in the primary. */
export interface Memory {
  /** Does at once what Store.allocate promises. */
  allocate(ids: string[]): number[];
  count(): number;
}

/** `window`: milliseconds. */
export function createMemory(window: number, now: () => number = Date.now): Memory {
  let count = 0;
  const remembered = new Map<string, { number: number; until: number }>(); // the oldest first
  function allocate(ids: string[]): number[] {
    for (const [id, { until }] of remembered) {
      if (until > now()) break;
      remembered.delete(id);
    }
    return ids.map((id) => {
      const known = remembered.get(id);
      if (known) return known.number;
      count += 1;
      remembered.set(id, { number: count, until: now() + window });
      return count;
    });
  }
  return { allocate, count: () => count };
}

/** In the primary: answers the allocations that arrive over one worker's channel. */
export function answerAllocations(worker: Channel, memory: Pick<Memory, 'allocate'>): void {
  worker.on('message', (request: AllocationRequest) => {
    if (request.type !== 'allocate') return;
    const response: AllocationResponse = { type: 'allocated', call: request.call };
    if (Date.now() <= request.deadline) response.numbers = memory.allocate(request.ids);
    worker.send?.(response, () => {}); // the worker may have died; its ids are remembered all the same
  });
}

/** In a worker: the store whose allocations go to the primary. */
export function openMemoryStore(primary: Channel): Store {
  const calls = new Map<number, (numbers?: number[]) => void>();
  let last = 0;
  primary.on('message', (response: AllocationResponse) => {
    if (response.type !== 'allocated') return;
    calls.get(response.call)?.(response.numbers);
    calls.delete(response.call);
  });
  return {
    allocate: (ids, deadline) =>
      new Promise((resolve, reject) => {
        last += 1;
        const call = last;
        calls.set(call, (numbers) =>
          numbers ? resolve(numbers) : reject(new Error('the deadline has passed')),
        );
        const request: AllocationRequest = { type: 'allocate', call, ids, deadline };
        primary.send?.(request, (error) => {
          if (!error) return;
          calls.delete(call);
          reject(error);
        });
      }),
    async ready() {
      if (!primary.connected) throw new Error('the primary process is gone');
    },
    async close() {},
  };
}
