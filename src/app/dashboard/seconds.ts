/** What each worker tells each second: written by all, read by those that somebody looks at. */
import { hostname } from 'node:os';
import type { Log, Metrics, WorkerEvent } from '../../contract.ts';
import { type History, keep } from './history.ts';
import { type Plot, type Points, toPoints, type Values } from './plot.ts';

/** What one worker tells of one second, with short names, since there are many. */
interface Report {
  worker: string;
  /** The second, since the epoch. */
  second: number;
  /** By the name of the plot. */
  samples: Record<string, unknown>;
  events: Mark[];
}

/** An event to be marked in the plots. */
export interface Mark extends WorkerEvent {
  host: string;
}

const maxUnsent = 900; // reports that wait for Redis to come back
const maxLate = 10; // seconds that a busy worker reports late; what sleeps longer, as a laptop does, leaves a gap

/** Writes a report at the end of each second. Returns its stop, which writes the last one. */
export function startReporting(
  plots: Plot[],
  { metrics, history, log }: { metrics: Metrics; history: History; log: Log },
): () => Promise<void> {
  const host = hostname();
  const unsent: string[] = [];
  let sending = Promise.resolve();
  let told = Date.now() - 10_000; // of events before that, older workers have told
  let next = Math.floor(Date.now() / 1_000); // the second to be told
  let timer: NodeJS.Timeout;

  function report(second: number): void {
    const samples = plots.flatMap(({ name, sample }) => (sample ? [[name, sample()]] : []));
    const events = metrics.events().filter(({ at }) => at > told);
    told = events.at(-1)?.at ?? told;
    const text: Report = {
      worker: `${host}:${process.pid}`,
      second,
      samples: Object.fromEntries(samples),
      events: events.map((event) => ({ ...event, host })),
    };
    unsent.push(JSON.stringify(text));
    if (unsent.length > maxUnsent) unsent.shift();
    sending = sending.then(send).catch((error) => log.debug({ err: error }, 'the history cannot be written'));
  }
  async function send(): Promise<void> {
    for (let text = unsent[0]; text !== undefined; text = unsent[0]) {
      await history.append('seconds', text);
      if (unsent[0] === text) unsent.shift();
    }
  }
  function waitForNext(): void {
    const pause = 1_010 - (Date.now() % 1_000); // timers may be a little early
    timer = setTimeout(() => {
      const now = Math.floor(Date.now() / 1_000);
      for (next = Math.max(next, now - maxLate); next < now; next++) report(next);
      waitForNext();
    }, pause);
  }
  waitForNext();

  return async () => {
    clearTimeout(timer);
    report(next);
    await sending;
  };
}

/** The reports of the last 15 minutes, as far as they were read. */
export class Seconds {
  readonly #history: History;
  readonly #samples = new Map<number, Map<string, Report['samples']>>(); // second → worker → samples
  readonly #marks = new Map<string, Mark>();
  #lastId = '0';
  #updating: Promise<void> | undefined;

  constructor(history: History) {
    this.#history = history;
  }

  /** Reads what is new: once for all who ask meanwhile. */
  update(): Promise<void> {
    this.#updating ??= this.#read().finally(() => {
      this.#updating = undefined;
    });
    return this.#updating;
  }

  async #read(): Promise<void> {
    for (const { id, text } of await this.#history.after('seconds', this.#lastId)) {
      const { worker, second, samples, events }: Report = JSON.parse(text);
      const workers = this.#samples.get(second) ?? new Map<string, Report['samples']>();
      this.#samples.set(second, workers.set(worker, samples));
      for (const mark of events) this.#marks.set(`${mark.host} ${mark.worker} ${mark.type} ${mark.at}`, mark);
      this.#lastId = id;
    }
    const oldest = (Date.now() - keep.seconds) / 1_000;
    for (const second of this.#samples.keys()) if (second < oldest) this.#samples.delete(second);
    for (const [key, { at }] of this.#marks) if (at / 1_000 < oldest) this.#marks.delete(key);
  }

  marks(): Mark[] {
    return [...this.#marks.values()].sort((a, b) => a.at - b.at);
  }

  /** The last second of which every worker has told, give or take one that lags. */
  get complete(): number {
    return Math.floor(Date.now() / 1_000) - 2;
  }

  /** The points of the seconds after this one, as far as they are complete. A second that nobody told of is a gap. */
  points({ name, combine = eachWorker }: Plot, after: number): Points {
    const values = new Map<number, Values>();
    const seconds = [...this.#samples.keys()];
    if (seconds.length === 0) return { times: [], lines: {} };
    for (let second = Math.max(after + 1, Math.min(...seconds)); second <= this.complete; second++) {
      const told = [...(this.#samples.get(second) ?? [])].filter(([, samples]) => name in samples);
      values.set(
        second,
        told.length > 0 ? combine(new Map(told.map(([worker, s]) => [worker, s[name]]))) : {},
      );
    }
    return toPoints(values);
  }
}

const eachWorker = (samples: Map<string, number>): Values => Object.fromEntries(samples);
