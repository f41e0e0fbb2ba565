/** What the workers measure: written each second by all, read by those that somebody looks at. */
import { hostname } from 'node:os';
import type { Log } from '../contract.ts';
import type { LivePlot } from '../plots.ts';
import { type History, kept } from './history.ts';
import { maxRows, type Rows, toRows } from './rows.ts';

/** What one worker reports of one second. */
interface Report {
  worker: string;
  /** Since the epoch. */
  second: number;
  /** By the name of the figure. */
  samples: Record<string, unknown>;
  /** Of the code: what another version measured may have another shape. */
  version?: string;
}

const maxUnsent = 900; // reports that wait until the history can be reached again
const maxLate = 10; // seconds that a busy worker reports late; what sleeps longer, as a laptop does, leaves a gap
/** Seconds that a frame repeats, for what a worker reported late. */
export const overlap = 3;

interface Options {
  history: History;
  version: string;
  log: Log;
}

/** Writes a report at the end of each second. Returns its stop, which writes the last one. */
export function startReporting(plots: LivePlot[], { history, version, log }: Options): () => Promise<void> {
  const worker = `${hostname()}:${process.pid}`;
  const unsent: string[] = [];
  const failing = new Set<string>();
  let sending = Promise.resolve();
  let next = Math.floor(Date.now() / 1_000); // the second to be reported
  let timer: NodeJS.Timeout;

  function sample({ name, sample }: LivePlot): [string, unknown][] {
    try {
      return [[name, sample()]];
    } catch (error) {
      if (!failing.has(name)) log.error({ err: error }, `the live figure ${name} cannot be measured`);
      failing.add(name);
      return [];
    }
  }
  function report(second: number): void {
    const samples = Object.fromEntries(plots.flatMap(sample));
    unsent.push(JSON.stringify({ worker, second, samples, version } satisfies Report));
    if (unsent.length > maxUnsent) unsent.shift();
    sending = sending.then(send).catch((error) => log.debug({ err: error }, 'the history cannot be written'));
  }
  async function send(): Promise<void> {
    for (let text = unsent[0]; text !== undefined; text = unsent[0]) {
      await history.append(text);
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
export class Live {
  readonly #options: Pick<Options, 'history' | 'version'>;
  readonly #reports = new Map<number, Map<string, Report>>(); // second → worker
  #lastId = '0';
  #updating: Promise<void> | undefined;

  constructor(options: Pick<Options, 'history' | 'version'>) {
    this.#options = options;
  }

  /** Reads what is new: once for all who ask meanwhile. Rejects while the history cannot be reached. */
  update(): Promise<void> {
    this.#updating ??= this.#read().finally(() => {
      this.#updating = undefined;
    });
    return this.#updating;
  }

  async #read(): Promise<void> {
    for (const { id, text } of await this.#options.history.after(this.#lastId)) {
      const report: Report = JSON.parse(text);
      const reports = this.#reports.get(report.second) ?? new Map<string, Report>();
      this.#reports.set(report.second, reports.set(report.worker, report));
      this.#lastId = id;
    }
    const oldest = (Date.now() - kept) / 1_000;
    for (const second of this.#reports.keys()) if (second < oldest) this.#reports.delete(second);
  }

  /** The last second of which every worker has reported, give or take one that lags. */
  get complete(): number {
    return Math.floor(Date.now() / 1_000) - 2;
  }

  /**
   * The rows of the seconds after this one, as far as they are complete: of every second, or of every nth, so that there
   * are `points` seconds and 20,000 rows at most.
   *
   * @throws what `rows` of the figure throws.
   */
  rows(plot: LivePlot, after: number, points = Number.POSITIVE_INFINITY): Rows {
    const seconds = [...this.#reports.keys()].filter((second) => second > after && second <= this.complete);
    let every = Math.max(1, Math.ceil(seconds.length / points));
    const list = seconds.filter((second) => second % every === 0).sort((a, b) => a - b);
    const rows = list.map((second) => this.#rowsOf(plot, second));
    const count = rows.reduce((sum, { length }) => sum + length, 0);
    every = Math.ceil(count / maxRows);
    return toRows(rows.filter((_, i) => i % every === 0).flat(), ['time']);
  }

  #rowsOf({ name, rows = eachWorker }: LivePlot, second: number): object[] {
    const reports = [...(this.#reports.get(second)?.values() ?? [])].filter(({ samples }) => name in samples);
    if (reports.length === 0) return [];
    try {
      const samples = new Map(reports.map((report) => [report.worker, report.samples[name]]));
      return rows(samples).map((row) => ({ time: second * 1_000, ...row }));
    } catch (error) {
      if (reports.every(({ version }) => version === this.#options.version)) throw error;
      return [];
    }
  }
}

function eachWorker(samples: Map<string, unknown>): object[] {
  return [...samples].map(([worker, value]) =>
    typeof value === 'object' && value !== null ? { worker, ...value } : { worker, value: value as number },
  );
}
