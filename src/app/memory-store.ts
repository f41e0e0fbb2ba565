/**
 * The store for a first look, on a machine without Redis. The count lives in the primary process and is lost when that
 * ends; workers ask for numbers over their IPC channels.
 */
import { answerRequests, type Channel, createRequester } from '../contract.ts';
import { type Note, notesKept, type Store } from './store.ts';

interface Allocation {
  ids: string[];
  deadline: number;
}

/** The count itself, in the primary. */
export interface Memory {
  /** Does at once what Store.allocate promises. */
  allocate(ids: string[]): number[];
  count(): number;
  /** What Store.note and Store.notes promise. */
  note(at: number, count: number): void;
  notes(): Note[];
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
  let notes: Note[] = [];
  function note(at: number, count: number): void {
    if (at <= (notes.at(-1)?.at ?? 0)) return;
    notes = [...notes.filter((old) => old.at > at - notesKept), { at, count }];
  }
  return { allocate, count: () => count, note, notes: () => notes };
}

/** In the primary: answers what arrives over one worker's channel. */
export function answerChannel(worker: Channel, memory: Memory): void {
  answerRequests(worker, 'count', memory.count);
  answerRequests(worker, 'notes', (note?: Note) => {
    if (note) memory.note(note.at, note.count);
    return memory.notes();
  });
  answerRequests(worker, 'allocate', ({ ids, deadline }: Allocation) => {
    if (Date.now() > deadline) throw new Error('the deadline has passed');
    return memory.allocate(ids);
  });
}

/** In a worker: the store whose allocations go to the primary. */
export function openMemoryStore(primary: Channel): Store {
  const allocate = createRequester<Allocation, number[]>(primary, 'allocate');
  const count = createRequester<undefined, number>(primary, 'count');
  const notes = createRequester<Note | undefined, Note[]>(primary, 'notes');
  return {
    allocate: (ids, deadline) => allocate({ ids, deadline }),
    count: () => count(undefined),
    note: (at, count) => notes({ at, count }).then(() => {}),
    notes: () => notes(undefined),
    async ready() {
      if (!primary.connected) throw new Error('the primary process is gone');
    },
    async close() {},
  };
}
