/** Computes figures, each once for all who ask for the same, and within bounds. */
import { createHash } from 'node:crypto';
import type { Log } from '../contract.ts';
import type { AskedPlot, Figure, LivePlot, Plot } from '../plots.ts';
import { BadQuery, describeControl, readValues } from './controls.ts';
import type { Live } from './live.ts';
import { findUnknownFields, maxRows, type Rows, toCsv, toRecords, toRows } from './rows.ts';
import { Budget, Slots } from './turns.ts';
import type { ControlOnPage, Failure, FigureOnPage, PlotOnPage } from './wire.ts';

const concurrency = 4;
const timeLimit = 4_500; // milliseconds: nginx gives up an answer after 5 s
const minAge = 1_000; // milliseconds for which what was computed is the answer
const maxEntries = 200;
const maxCells = 500_000; // of all rows that are remembered

export type DrawnPlot = AskedPlot | LivePlot;
export type Format = 'json' | 'csv' | 'rows.json';

/** An answer, ready to be sent. */
export interface Answer {
  body: Buffer;
  etag: string;
}

/** What an error is answered with. */
export interface Refusal {
  status: number;
  headers: Record<string, string>;
  body: Failure;
}

interface Made {
  spec: Figure | null;
  rows: Rows;
  at: number;
  answers: Map<Format, Answer>;
}

interface Entry {
  made: Promise<Made>;
  until: number;
  cells: number;
}

interface Options {
  live: Live;
  log: Log;
  /** Whether whoever looks may see what the code throws, and where. */
  development: boolean;
}

export class Figures {
  readonly #options: Options;
  readonly #slots = new Slots(concurrency);
  readonly #budget = new Budget();
  readonly #entries = new Map<string, Entry>(); // the oldest first
  #page: { plots: Promise<PlotOnPage[]>; until: number } | undefined;
  readonly #failing = new Map<string, { message: string; requestId: string }>();

  constructor(options: Options) {
    this.#options = options;
  }

  /** Rejects with what `refuse` explains. */
  async answer(plot: DrawnPlot, query: URLSearchParams, format: Format): Promise<Answer> {
    await this.#budget.wait();
    query.sort();
    const key = `${plot.name}?${query}`;
    const known = this.#entries.get(key);
    const { made } = known && known.until > Date.now() ? known : this.#begin(key, plot, query);
    const figure = await made;
    this.#failing.delete(plot.name);
    const answer = figure.answers.get(format) ?? this.#budget.spend(() => encode(figure, format));
    figure.answers.set(format, answer);
    return answer;
  }

  /** What the page shows, asked once for all who open it within a second. */
  async describe(plots: Plot[]): Promise<PlotOnPage[]> {
    await this.#budget.wait();
    if (!this.#page || this.#page.until < Date.now()) {
      this.#page = { plots: Promise.all(plots.map(describePlot)), until: Date.now() + minAge };
    }
    return this.#page.plots;
  }

  #begin(key: string, plot: DrawnPlot, query: URLSearchParams): Entry {
    const made = this.#slots.run(() => withinTime(this.#make(plot, query), plot.name));
    const entry = { made, until: Number.POSITIVE_INFINITY, cells: 0 };
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const every = 'every' in plot ? (plot.every ?? 0) * 1_000 : 0;
    const end = (age: number, cells: number) => {
      Object.assign(entry, { until: Date.now() + age, cells });
      this.#forget();
    };
    made.then(
      ({ rows }) => end(Math.max(minAge, every), rows.count * Object.keys(rows.columns).length),
      () => end(minAge, 0),
    );
    return entry;
  }

  #forget(): void {
    let cells = 0;
    for (const [key, entry] of [...this.#entries].reverse()) {
      cells += entry.cells;
      const fits = cells <= maxCells && this.#entries.size <= maxEntries;
      if (!fits || entry.until <= Date.now()) this.#entries.delete(key);
    }
  }

  async #make(plot: DrawnPlot, query: URLSearchParams): Promise<Made> {
    const isLive = plot.kind === 'live';
    const points = query.get('points') ?? undefined;
    if (isLive) query.delete('points');
    const values = await readValues(plot.controls, query);
    const rows = isLive ? await this.#liveRows(plot, points) : await this.#ask(plot, values);
    const { figure = null } = plot;
    const spec = typeof figure === 'function' ? figure(values) : figure;
    const [unknown] = spec && this.#options.development ? findUnknownFields(spec, rows) : [];
    if (unknown !== undefined) {
      const known = Object.keys(rows.columns).join(', ');
      throw new Error(`figure names the field ${unknown}, which no row has; right would be one of ${known}`);
    }
    return { spec, rows, at: Date.now(), answers: new Map() };
  }

  async #ask(plot: AskedPlot, values: Record<string, unknown>): Promise<Rows> {
    const list = await this.#budget.spend(() => plot.rows(values));
    if (!Array.isArray(list)) throw new Error(`rows of ${plot.name} returned no array of records`);
    if (list.length > maxRows) {
      const message = `${plot.name} has ${list.length} rows, and ${maxRows} can be shown: aggregate them in rows, or let a control choose fewer`;
      throw Object.assign(new Error(message), { status: 413, expose: true });
    }
    return this.#budget.spend(() => toRows(list));
  }

  async #liveRows(plot: LivePlot, points = '10000'): Promise<Rows> {
    if (!/^[1-9]\d{0,4}$/.test(points)) {
      throw new BadQuery(`points is ${JSON.stringify(points)}; right would be a number from 1 to 99999`);
    }
    await this.#options.live.update().catch((cause) => {
      const error = new Error('what was measured cannot be read now', { cause });
      throw Object.assign(error, { status: 503, expose: true, headers: { 'Retry-After': '1' } });
    });
    return this.#budget.spend(() => this.#options.live.rows(plot, 0, 2 * Number(points)));
  }

  /** What is answered instead of a figure. What the owner's code throws is logged once, with the request id shown. */
  refuse({ name }: DrawnPlot, cause: unknown, requestId: string): Refusal {
    const error = (cause instanceof Error ? cause : new Error(String(cause))) as Error &
      Partial<Refusal> & { expose?: boolean };
    const { status = 500, expose = false, headers = {}, message, stack = '' } = error;
    if (expose) return { status, headers, body: { error: { message, requestId } } };
    let known = this.#failing.get(name);
    if (known?.message !== message) {
      known = { message, requestId };
      this.#failing.set(name, known);
      this.#options.log.error({ err: error, request_id: requestId }, `the figure ${name} failed`);
    }
    const [line] = /\b(?:src|dist)\/app\/[^\s():]+:\d+/.exec(stack) ?? [];
    const shown = this.#options.development
      ? { message, ...(line && { line }) }
      : { message: 'This figure cannot be computed now.' };
    return { status: 500, headers: {}, body: { error: { ...shown, requestId: known.requestId } } };
  }
}

/** What the page learns of a plot. Where choices cannot be asked there are none, and the figure says why. */
async function describePlot(plot: Plot): Promise<PlotOnPage> {
  const { kind, title, text } = plot;
  const shown = { kind, title, ...(text !== undefined && { text }) };
  if (plot.kind === 'heading') return { ...shown, name: '', width: 'whole', controls: [] };
  const controls = Object.entries(plot.controls).map(([name, control]) =>
    describeControl(name, control).catch(
      (): Promise<ControlOnPage> => describeControl(name, { ...control, choices: [] }),
    ),
  );
  const every = plot.kind === 'live' ? undefined : plot.every;
  return {
    ...shown,
    name: plot.name,
    width: plot.width ?? 'half',
    ...(every !== undefined && { every }),
    controls: await Promise.all(controls),
  };
}

function encode({ spec, rows, at }: Made, format: Format): Answer {
  const { columns, count } = rows;
  const figure: FigureOnPage = { spec, columns, count, times: [...rows.times], at };
  const text = format === 'csv' ? toCsv(rows) : JSON.stringify(format === 'json' ? figure : toRecords(rows));
  const same = format === 'json' ? text.slice(0, text.lastIndexOf(',')) : text; // all but `at`
  return { body: Buffer.from(text), etag: `"${createHash('sha1').update(same).digest('base64url')}"` };
}

async function withinTime<Result>(work: Promise<Result>, name: string): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`the rows of ${name} took longer than ${timeLimit / 1_000} s`);
    timer = setTimeout(() => reject(Object.assign(error, { status: 503, expose: true })), timeLimit);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
