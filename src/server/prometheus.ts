/** Prometheus' text format, version 0.0.4. */
import type { Durations } from '../contract.ts';
import { bounds } from './worker-metrics.ts';

/** Their content type. */
export const contentType = 'text/plain; version=0.0.4';

export type Sample = [labels: Record<string, string>, value: number];

/** One metric with its samples, a line each. */
export function metric(name: string, type: string, help: string, samples: Sample[]): string[] {
  const lines = samples.map(([labels, value]) => `${name}${toLabels(labels)} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines];
}

/** One histogram of each label set. */
export function histogram(name: string, series: Durations[]): string[] {
  const samples = series.flatMap(({ labels, counts, sum }) => {
    let below = 0;
    const buckets = counts.map((count, i) => {
      below += count;
      return `${name}_bucket${toLabels({ ...labels, le: String(bounds[i] ?? '+Inf') })} ${below}`;
    });
    return [...buckets, `${name}_sum${toLabels(labels)} ${sum}`, `${name}_count${toLabels(labels)} ${below}`];
  });
  return [
    `# HELP ${name} Durations, of all workers there have been.`,
    `# TYPE ${name} histogram`,
    ...samples,
  ];
}

function toLabels(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(
    ([name, value]) =>
      `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return pairs.length > 0 ? `{${pairs.join(',')}}` : '';
}
