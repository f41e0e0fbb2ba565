/**
 * The numbers of the whole instance, in the primary. Each worker's last totals are kept when it is gone, so nothing
 * ever goes backwards, and no worker is waited for when the numbers are asked for.
 */
import type { Worker } from 'node:cluster';
import type { Durations, WorkerEvent } from '../app/service.ts';
import type { FromPrimary, FromWorker, StartReason } from './messages.ts';
import { bounds, emptyCounts, type Snapshot } from './metrics.ts';

/** How many events a new worker is told of. */
const maxEvents = 20;

type Totals = Map<string, Map<string, Durations>>; // name → labels → histogram

export class InstanceMetrics {
  /** The number of workers that there ought to be. */
  wanted: () => number = () => 0;
  readonly #alive = new Map<Worker, Snapshot | undefined>();
  readonly #departed: Totals = new Map();
  readonly #starts = new Map<StartReason, number>();
  readonly #events: WorkerEvent[] = [];

  /** To be called with each new worker. */
  watch(worker: Worker): void {
    this.#alive.set(worker, undefined);
    worker.on('message', (message: FromWorker) => {
      if (message.type === 'heartbeat' && message.metrics) this.#alive.set(worker, message.metrics);
      if (message.type === 'listening') send(worker, { type: 'worker-events', events: this.#events });
      if (message.type === 'metrics') send(worker, { ...message, text: this.toText() });
    });
    worker.on('exit', () => {
      const last = this.#alive.get(worker);
      if (last) addTotals(this.#departed, last);
      this.#alive.delete(worker);
    });
  }

  /** A worker listens; `reason`: why it was started. */
  countStart(reason: StartReason): void {
    this.#starts.set(reason, (this.#starts.get(reason) ?? 0) + 1);
  }

  /** Tells all workers what has happened. */
  announce(type: WorkerEvent['type'], worker = 0): void {
    const event = { at: Date.now(), type, worker };
    this.#events.push(event);
    if (this.#events.length > maxEvents) this.#events.shift();
    for (const other of this.#alive.keys()) send(other, { type: 'worker-events', events: [event] });
  }

  /** Everything, as Prometheus reads it. */
  toText(): string {
    const snapshots = [...this.#alive.values()].filter((snapshot) => snapshot !== undefined);
    const totals: Totals = new Map();
    for (const [name, series] of this.#departed) addSeries(totals, name, [...series.values()]);
    for (const snapshot of snapshots) addTotals(totals, snapshot);
    const starts = [...this.#starts].map(([reason, count]): Sample => [{ reason }, count]);
    const memory = snapshots.reduce((sum, snapshot) => sum + snapshot.memory, 0);
    const busiest = snapshots.reduce((most, { utilization }) => Math.max(most, utilization), 0);
    return [
      ...metric('app_workers_wanted', 'gauge', 'Workers that there ought to be.', [[{}, this.wanted()]]),
      ...metric('app_workers', 'gauge', 'Workers that there are.', [[{}, this.#alive.size]]),
      ...metric('app_worker_starts_total', 'counter', 'Workers that began to listen, by reason.', starts),
      ...metric('process_resident_memory_bytes', 'gauge', 'Memory of the primary and of all workers.', [
        [{ process: 'primary' }, process.memoryUsage.rss()],
        [{ process: 'workers' }, memory],
      ]),
      ...metric('nodejs_eventloop_utilization', 'gauge', 'Busy share of time of the busiest worker.', [
        [{}, busiest],
      ]),
      ...[...totals].flatMap(([name, series]) => histogram(`${name}_duration_seconds`, [...series.values()])),
      '',
    ].join('\n');
  }
}

function send(worker: Worker, message: FromPrimary): void {
  if (worker.isConnected()) worker.send(message, () => {}); // one that dies meanwhile needs no answer
}

function addTotals(totals: Totals, { durations }: Snapshot): void {
  for (const [name, series] of Object.entries(durations)) addSeries(totals, name, series);
}

function addSeries(totals: Totals, name: string, series: Durations[]): void {
  const known = totals.get(name) ?? new Map<string, Durations>();
  totals.set(name, known);
  for (const { labels, counts, sum } of series) {
    const key = JSON.stringify(labels);
    const total = known.get(key) ?? { labels, counts: emptyCounts(), sum: 0 };
    known.set(key, total);
    total.sum += sum;
    for (const [i, count] of counts.entries()) (total.counts[i] as number) += count;
  }
}

type Sample = [labels: Record<string, string>, value: number];

function metric(name: string, type: string, help: string, samples: Sample[]): string[] {
  const lines = samples.map(([labels, value]) => `${name}${toLabels(labels)} ${value}`);
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines];
}

function histogram(name: string, series: Durations[]): string[] {
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
