/**
 * Visits by hour and by day. The log `hours` has the count at the start of each hour; the difference of two entries is
 * what was counted between them. So no visit is missed or counted twice, whatever dies, and a visit costs nothing more.
 */
import type { Entry, History } from './history.ts';
import { type Points, toPoints } from './plot.ts';

const hour = 3_600_000;
const ranges: Record<string, { slot: number; slots: number }> = {
  hours: { slot: hour, slots: 24 },
  days: { slot: 24 * hour, slots: 30 },
};

const startOf = (time: number, slot: number) => Math.floor(time / slot) * slot;

/** To be called again and again: writes down the count once an hour, whichever worker comes first. */
export function createHourlyNote(history: History): () => Promise<void> {
  let noted = 0;
  return async () => {
    const now = startOf(Date.now(), hour);
    if (now === noted) return;
    await history.append('hours', String(await history.count()), now);
    noted = now;
  };
}

/** The visits of each hour (`hours`) or each day of UTC (`days`), the one that has not ended last. */
export async function readVisits(history: History, range: string): Promise<Points> {
  const { slot, slots } = ranges[range] ?? { slot: hour, slots: 24 };
  const [entries, count] = await Promise.all([history.after('hours', '0'), history.count()]);
  const now = Date.now();
  const notes = [...entries.map(toNote), { at: now, count }];
  const known = startOf(notes[0]?.at ?? now, slot);
  const visits = new Map<number, number | null>();
  for (let i = slots - 1; i >= 0; i--) {
    const start = startOf(now, slot) - i * slot;
    visits.set(start, start < known ? null : 0);
  }
  for (const [i, note] of notes.entries()) {
    const start = startOf(note.at, slot);
    const before = visits.get(start);
    if (before === undefined || before === null) continue;
    visits.set(start, before + Math.max(0, (notes[i + 1]?.count ?? note.count) - note.count));
  }
  return toPoints(new Map([...visits].map(([start, number]) => [start / 1000, { visits: number }])));
}

function toNote({ id, text }: Entry): { at: number; count: number } {
  return { at: Number(id.split('-')[0]), count: Number(text) };
}
