/** Histograms of durations, as figures show them. */
import type { Durations } from '../contract.ts';

/** What was added to each bucket of these histograms since the call before. */
export function createIncrease(read: () => Durations[]): () => number[] {
  let before: number[] = [];
  return () => {
    const now = addUp(read().map(({ counts }) => counts));
    const increase = now.map((total, i) => total - (before[i] ?? 0));
    before = now;
    return increase;
  };
}

/** The buckets of several histograms, added up. */
export function addUp(histograms: Iterable<number[]>): number[] {
  const total: number[] = [];
  for (const counts of histograms) {
    for (const [i, count] of counts.entries()) total[i] = (total[i] ?? 0) + count;
  }
  return total;
}

export const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);

/** A row for each bucket that is not empty. `bounds`: seconds. */
export function toRanges(counts: number[], bounds: number[]): { within: string; visits: number }[] {
  return counts.flatMap((visits, i) => (visits > 0 ? [{ within: nameOf(i, bounds), visits }] : []));
}

/** All buckets, as `toRanges` names them, the longest first. */
export const rangesOf = (bounds: number[]) =>
  [...bounds, Number.POSITIVE_INFINITY].map((_, i) => nameOf(i, bounds)).reverse();

function nameOf(bucket: number, bounds: number[]): string {
  const bound = bounds[bucket];
  return bound === undefined ? 'longer' : `${1_000 * bound} ms`;
}

/** Half of the durations were shorter than the one, and 99 of 100 shorter than the other. Without any there are none. */
export function toQuantiles(counts: number[], bounds: number[]): { of: string; milliseconds: number }[] {
  return Object.entries({ 'half within': 0.5, '99 of 100 within': 0.99 }).flatMap(([of, share]) => {
    const milliseconds = quantile(share, counts, bounds);
    return milliseconds === undefined ? [] : [{ of, milliseconds }];
  });
}

/** As Prometheus' histogram_quantile() does: within its bucket, a value lies where its rank does. */
function quantile(share: number, counts: number[], bounds: number[]): number | undefined {
  let rank = share * sum(counts);
  if (rank === 0) return undefined;
  for (const [i, count] of counts.entries()) {
    const upper = bounds[i];
    if (upper === undefined) break;
    const lower = bounds[i - 1] ?? 0;
    if (rank <= count) return Number((1000 * (lower + ((upper - lower) * rank) / count)).toPrecision(3));
    rank -= count;
  }
  return 1000 * (bounds.at(-1) as number);
}
