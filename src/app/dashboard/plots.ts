import type { Durations, Metrics } from '../../contract.ts';
import type { History } from './history.ts';
import type { Plot } from './plot.ts';
import { readVisits } from './visits.ts';

/** The table of plots. ADD YOURS HERE: docs/dashboard.md has examples. */
export function createPlots(metrics: Metrics, history: History): Plot[] {
  return [
    {
      name: 'visits',
      title: 'Visits',
      unit: 'visits',
      bars: true,
      choices: { hours: 'each hour of a day', days: 'each day of a month' },
      read: (choice) => readVisits(history, choice),
    },
    {
      name: 'rate',
      title: 'Visits a second',
      unit: 'visits/s',
      sample: increaseOf(() => [sum(countsOf(visits(metrics)))]),
      combine: (samples) => ({ visits: sum([...samples.values()].flat()) }),
    },
    {
      name: 'latency',
      title: 'Time to answer a visit',
      unit: 'ms',
      sample: increaseOf(() => countsOf(visits(metrics))),
      combine: (samples) => quantiles(samples, metrics),
    },
    {
      name: 'share',
      title: 'Share of each worker',
      unit: '%',
      sample: increaseOf(() => [sum(countsOf(visits(metrics)))]),
      combine(samples) {
        const all = sum([...samples.values()].flat());
        const shares = [...samples].map(([worker, [own]]) => [worker, all && percent(own / all)]);
        return Object.fromEntries(shares);
      },
    },
    {
      name: 'store',
      title: 'Round trip to where the count is kept',
      unit: 'ms',
      sample: increaseOf(() => countsOf(metrics.read('db_client_operation'))),
      combine: (samples) => quantiles(samples, metrics),
    },
  ];
}

function visits(metrics: Metrics): Durations[] {
  return metrics
    .read('http_server_request')
    .filter(({ labels }) => labels.http_route === '/' && labels.http_response_status_code === '200')
    .filter(({ labels }) => labels.http_request_method === 'GET');
}

/** Totals become what was added to them since the call before. */
function increaseOf(read: () => number[]): () => number[] {
  let before: number[] = [];
  return () => {
    const now = read();
    const increase = now.map((total, i) => total - (before[i] ?? 0));
    before = now;
    return increase;
  };
}

/** The buckets of several histograms, added up. */
function countsOf(histograms: Pick<Durations, 'counts'>[]): number[] {
  const counts: number[] = [];
  for (const histogram of histograms) {
    for (const [i, count] of histogram.counts.entries()) counts[i] = (counts[i] ?? 0) + count;
  }
  return counts;
}

/** Half of the durations were shorter than p50, and 99 of 100 shorter than p99. Milliseconds; null: there was none. */
function quantiles(
  samples: Map<string, number[]>,
  metrics: Metrics,
): { p50: number | null; p99: number | null } {
  const counts = countsOf([...samples.values()].map((counts) => ({ counts })));
  return { p50: quantile(0.5, counts, metrics.bounds), p99: quantile(0.99, counts, metrics.bounds) };
}

/** As Prometheus' histogram_quantile() does: within its bucket, a value lies where its rank does. */
function quantile(share: number, counts: number[], bounds: number[]): number | null {
  let rank = share * sum(counts);
  if (rank === 0) return null;
  for (const [i, count] of counts.entries()) {
    const upper = bounds[i];
    if (upper === undefined) break;
    const lower = bounds[i - 1] ?? 0;
    if (rank <= count) return Number((1000 * (lower + ((upper - lower) * rank) / count)).toPrecision(3));
    rank -= count;
  }
  return 1000 * (bounds.at(-1) as number);
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
const percent = (share: number) => Math.round(1000 * share) / 10;
