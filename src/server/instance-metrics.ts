/**
 * The metrics of the whole instance, in the primary. Each worker's last totals are kept when it is gone, so no total
 * ever goes backwards, and a scrape waits for no worker.
 */
import type { Worker } from 'node:cluster';
import type { Durations, WorkerEvent } from '../contract.ts';
import type { FromPrimary, FromWorker, StartReason } from './messages.ts';
import { histogram, metric, type Sample } from './prometheus.ts';
import { emptyCounts, readMemory, type Snapshot } from './worker-metrics.ts';

/** How many events a new worker gets. */
const maxEvents = 20;

type Totals = Map<string, Map<string, Durations>>; // name → labels → histogram

export class InstanceMetrics {
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

  /** Reports to all workers what has happened. */
  announce(type: WorkerEvent['type'], worker = 0): void {
    const event = { at: Date.now(), type, worker };
    this.#events.push(event);
    if (this.#events.length > maxEvents) this.#events.shift();
    for (const other of this.#alive.keys()) send(other, { type: 'worker-events', events: [event] });
  }

  /** Everything, as Prometheus reads it. `wanted`: the number of workers that there ought to be. */
  toText(wanted: number): string {
    const snapshots = [...this.#alive.values()].filter((snapshot) => snapshot !== undefined);
    const totals: Totals = new Map();
    for (const [name, series] of this.#departed) addSeries(totals, name, [...series.values()]);
    for (const snapshot of snapshots) addTotals(totals, snapshot);
    const starts = [...this.#starts].map(([reason, count]): Sample => [{ reason }, count]);
    const memory = snapshots.reduce((sum, snapshot) => sum + snapshot.memory, 0);
    const busiest = snapshots.reduce((most, { utilization }) => Math.max(most, utilization), 0);
    return [
      ...metric('app_workers_wanted', 'gauge', 'Workers that there ought to be.', [[{}, wanted]]),
      ...metric('app_workers', 'gauge', 'Workers that there are.', [[{}, this.#alive.size]]),
      ...metric('app_worker_starts_total', 'counter', 'Workers that began to listen, by reason.', starts),
      ...metric('process_resident_memory_bytes', 'gauge', 'Memory of the primary and of all workers.', [
        [{ process: 'primary' }, readMemory()],
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
