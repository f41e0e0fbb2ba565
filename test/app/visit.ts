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
 * of a visit which had ended before this one began, and none missing but for visits without an answer, which may have
 * been counted. The history begins with the first visit ever and ends with one that began after all others.
 */
export function judge(history: Exchange[]): Verdict {
  const wrong: string[] = [];
  const counted: Visit[] = [];
  let open = 0; // visits of which nobody knows whether they were counted
  for (const { begin, end, status, body = '' } of history) {
    if (status === undefined || status >= 500) open += 1;
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
  const highest = counted.reduce((most, { number }) => Math.max(most, number), 0);
  const unacknowledged = highest - numbers.size;
  if (unacknowledged > open) {
    wrong.push(`${unacknowledged} numbers are missing, and only ${open} visits had no answer`);
  }
  return { wrong, unacknowledged };
}

/** The number in an answer to a visit, as `{"hits": N}` or as text. */
export function numberIn(body: string): number | undefined {
  const digits = /\d+/.exec(body)?.[0];
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
