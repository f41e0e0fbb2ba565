/**
 * What a visit is, and what a right answer to it is. The load of all tests asks for this and has its history judged
 * here: REWRITE THIS for your own service.
 */
import type { Exchange, Verdict } from '../support/history.ts';

/** The request that the load sends, by GET. It must be safe to send again. */
export const visit = { path: '/', headers: { Accept: 'application/json' } };

interface Visit {
  begin: number;
  end: number;
  number: number;
}

/**
 * Checks that a history is linearizable, as one counter's that gives 1, 2, 3 …: no number twice, none smaller than that
 * of a visit which had ended before this one began, and none missing but those that visits without an answer may have
 * got. The history begins with the first visit ever and ends with one that began after all others.
 */
export function judge(history: Exchange[]): Verdict {
  const wrong: string[] = [];
  const counted: Visit[] = [];
  const open: number[] = []; // when those visits began of which nobody knows whether they were counted
  for (const { begin, end, status, body = '' } of history) {
    if (status === undefined || status >= 500) open.push(begin);
    if (status !== 200) continue;
    const number = numberIn(body);
    if (number === undefined) wrong.push(`an answer without a number: ${body.slice(0, 80)}`);
    else counted.push({ begin, end, number });
  }
  const numbers = new Set<number>();
  for (const { number } of counted) {
    if (numbers.has(number)) wrong.push(`the number ${number} was given more than once`);
    numbers.add(number);
  }
  findOutOfOrder(counted, wrong);
  const unacknowledged = findMissing(counted, open, wrong);
  return { wrong, unacknowledged };
}

/** The number in an answer to a visit, as `{"hits": N}` or as text. */
export function numberIn(body: string): number | undefined {
  const [, json, text] = /^\{"hits":([1-9]\d*)\}$|^I've been seen ([1-9]\d*) times\.\n$/.exec(body) ?? [];
  const digits = json ?? text;
  return digits === undefined ? undefined : Number(digits);
}

/** Real-time order: walks through begins and ends, and remembers the highest number that had been answered. */
function findOutOfOrder(visits: Visit[], wrong: string[]): void {
  const byBegin = visits.toSorted((a, b) => a.begin - b.begin);
  const byEnd = visits.toSorted((a, b) => a.end - b.end);
  let ended = 0;
  let highest = 0;
  for (const { begin, number } of byBegin) {
    for (let next = byEnd[ended]; next && next.end < begin; next = byEnd[ended]) {
      highest = Math.max(highest, next.number);
      ended += 1;
    }
    if (number < highest) {
      wrong.push(`${number} was given to a visit that began after ${highest} was answered`);
    }
  }
}

/**
 * Each number that no answer has must be one that a visit without an answer got: one that had begun before any higher
 * number was answered. The lowest missing number goes to the visit that began first, which is possible if anything is.
 *
 * @returns how many are missing.
 */
function findMissing(visits: Visit[], open: number[], wrong: string[]): number {
  const begins = Float64Array.from(open).sort();
  let missing = 0;
  for (const { from, to, before } of findGaps(visits)) {
    missing += to - from + 1;
    const last = begins[missing - 1];
    if (last !== undefined && last <= before) continue;
    const what = from === to ? `${from} is` : `${from} to ${to} are`;
    wrong.push(`${what} missing, and too few visits without an answer had begun by then`);
  }
  return missing;
}

/** The numbers that no answer has, and when the first higher one was answered; the lowest first. */
function findGaps(visits: Visit[]): { from: number; to: number; before: number }[] {
  const gaps: { from: number; to: number; before: number }[] = [];
  const descending = visits.toSorted((a, b) => b.number - a.number);
  let before = Number.POSITIVE_INFINITY;
  for (const [i, { number, end }] of descending.entries()) {
    before = Math.min(before, end);
    const lower = descending[i + 1]?.number ?? 0;
    if (number - lower > 1) gaps.push({ from: lower + 1, to: number - 1, before });
  }
  return gaps.reverse();
}
