/**
 * Visits by hour and by day. The store notes the count at the start of each hour; the difference of two notes is what was
 * counted between them. So no visit is missed or counted twice, whatever dies, and a visit costs nothing more.
 */
import type { Store } from './store.ts';

const hour = 3_600_000;
const day = 24 * hour;
const noteInterval = 200; // milliseconds between two looks at the clock: what is counted before the first note has no hour

export interface Slot {
  start: Date;
  visits: number;
}

export interface Hours {
  /** The visits of each of the last 24 hours, the one that has not ended last; as far as they are known. */
  byHour(): Promise<Slot[]>;
  /** The visits of each of the last 30 days of UTC, in the same way. */
  byDay(): Promise<Slot[]>;
  close(): void;
}

export function createHours(store: Pick<Store, 'count' | 'note' | 'notes'>, now = Date.now): Hours {
  let noted = 0;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  async function note(): Promise<void> {
    const start = startOf(now(), hour);
    if (start === noted) return;
    await store.note(start, await store.count());
    noted = start;
  }
  // One command at a time: a connection that is written to again and again is never silent, so never given up.
  async function keepNoting(): Promise<void> {
    await note().catch(() => {}); // if the store is away, at the next look
    if (!closed) timer = setTimeout(keepNoting, noteInterval);
  }
  keepNoting();

  async function read(slot: number, slots: number): Promise<Slot[]> {
    const [past, count] = await Promise.all([store.notes(), store.count()]);
    const notes = [...past, { at: now(), count }];
    const first = startOf(notes[0]?.at ?? now(), slot);
    const visits = new Map<number, number>();
    for (let start = startOf(now(), slot) - (slots - 1) * slot; start <= now(); start += slot) {
      if (start >= first) visits.set(start, 0);
    }
    for (const [i, { at, count }] of notes.entries()) {
      const start = startOf(at, slot);
      const before = visits.get(start);
      const more = Math.max(0, (notes[i + 1]?.count ?? count) - count);
      if (before !== undefined) visits.set(start, before + more);
    }
    return [...visits].map(([start, visits]) => ({ start: new Date(start), visits }));
  }
  return {
    byHour: () => read(hour, 24),
    byDay: () => read(day, 30),
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

const startOf = (time: number, slot: number) => Math.floor(time / slot) * slot;
