import { afterEach, expect, test } from '@jest/globals';
import { createHours, type Hours } from '../../src/app/hours.ts';
import { createMemory } from '../../src/app/memory-store.ts';
import { waitFor } from '../support/wait.ts';

const hour = 3_600_000;
let hours: Hours | undefined;
afterEach(() => hours?.close());

/** A count whose clock the test sets. `before`: visits before anything is noted, so nobody knows when they were. */
function create(start: string, before = 0) {
  const clock = { now: Date.parse(start) };
  const memory = createMemory(hour, () => clock.now);
  const store = {
    count: async () => memory.count(),
    note: async (at: number, count: number) => memory.note(at, count),
    notes: async () => memory.notes(),
  };
  let last = 0;
  const visit = (times: number) => {
    for (let i = 0; i < times; i++) memory.allocate([String(++last)]);
  };
  visit(before);
  hours = createHours(store, () => clock.now);
  const noted = (count: number) =>
    waitFor(() => memory.notes().length === count, 'the note of this hour', 5_000);
  return { clock, hours, visit, noted };
}

const texts = (slots: { start: Date; visits: number }[]) =>
  slots.map(({ start, visits }) => `${start.toISOString().slice(0, 13)} ${visits}`);

test('visits are those of their hour and of their day of UTC, and what is not known is left out', async () => {
  const { clock, hours, visit, noted } = create('2026-11-28T22:30:00Z', 2);
  await noted(1);
  visit(3);
  clock.now += hour;
  await noted(2);
  visit(4);
  clock.now += hour;
  await noted(3);
  visit(5);
  expect(texts(await hours.byHour())).toEqual(['2026-11-28T22 3', '2026-11-28T23 4', '2026-11-29T00 5']);
  expect(texts(await hours.byDay())).toEqual(['2026-11-28T00 7', '2026-11-29T00 5']);
});

test('a day has 24 hours and a month 30 days; what is older goes', async () => {
  const { clock, hours, noted } = create('2026-11-28T00:00:00Z');
  await noted(1);
  clock.now += 40 * 24 * hour;
  await waitFor(async () => (await hours.byHour()).length === 24, 'a day');
  expect(await hours.byHour()).toHaveLength(24);
  expect((await hours.byDay()).length).toBeLessThanOrEqual(30);
});
