import type { Context } from 'koa';
import type { Log } from '../../contract.ts';
import type { History } from './history.ts';
import type { Plot, Points } from './plot.ts';
import { Seconds } from './seconds.ts';
import { Streams, type Viewer } from './streams.ts';

const interval = 1_000; // milliseconds between two frames
const overlap = 3; // seconds that are sent again, for what a worker told late

/** What one viewer has, and what it asked for. */
interface Look {
  /** It has the points up to this second. */
  second: number;
  choices: Record<string, string>;
  /** What it was sent last, by plot; and the marks. */
  sent: Map<string, string>;
}

/** What a frame has of a plot: points to be added, or all of them (`whole`), or that it cannot be read. */
type Piece = (Points & { whole?: true }) | { failed: true };

/** Sends the plots to those who look, and reads them for nobody else. */
export class PlotFeed {
  readonly #plots: Plot[];
  readonly #log: Log;
  readonly #seconds: Seconds;
  readonly #streams = new Streams<Look>();
  readonly #failing = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(plots: Plot[], history: History, log: Log) {
    this.#plots = plots;
    this.#log = log;
    this.#seconds = new Seconds(history);
  }

  /** All points of one plot. Rejects with the answer 503 while they cannot be read. */
  async read(plot: Plot, choice: string): Promise<Points> {
    try {
      if (plot.read) return await plot.read(validChoice(plot, choice));
      await this.#seconds.update();
      return this.#seconds.points(plot, 0);
    } catch (cause) {
      const error = new Error(`the plot ${plot.name} cannot be read now`, { cause });
      throw Object.assign(error, { status: 503, expose: true });
    }
  }

  /** Answers with the stream of all plots, from what the client has on. */
  stream(ctx: Context): void {
    const choices = Object.fromEntries(
      this.#plots.map((plot) => [plot.name, validChoice(plot, String(ctx.query[plot.name] ?? ''))]),
    );
    const given = ctx.get('Last-Event-ID') || String(ctx.query.after ?? '');
    const second = /^\d{1,12}$/.test(given) ? Number(given) : 0;
    const look = { second, choices, sent: new Map() };
    const viewer = this.#streams.open(ctx, look);
    if (!viewer) return;
    this.#show([[viewer, look]]);
    this.#timer ??= setInterval(() => this.#tick(), interval);
  }

  drain(): void {
    this.#streams.drain();
  }

  #tick(): void {
    if (this.#streams.viewers.size > 0) {
      this.#show([...this.#streams.viewers]);
    } else {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }

  async #show(viewers: [Viewer, Look][]): Promise<void> {
    try {
      await this.#seconds.update();
    } catch {
      for (const [viewer] of viewers) if (viewer.ready()) viewer.send({ event: 'away', data: {} });
      return;
    }
    const readings = new Map<string, Promise<Piece>>();
    const { complete } = this.#seconds;
    for (const [viewer, look] of viewers) {
      const plots = await this.#news(look, readings);
      if (!viewer.ready()) continue; // it gets all of it when it has read what it has
      const marks = this.#changed(look, 'marks', this.#seconds.marks());
      viewer.send({ id: String(complete), data: { plots, marks } });
      look.second = complete;
      for (const [name, piece] of Object.entries(plots)) look.sent.set(name, JSON.stringify(piece));
    }
  }

  /** What a viewer does not have yet. Each choice of a plot is read once for all. */
  async #news(look: Look, readings: Map<string, Promise<Piece>>): Promise<Record<string, Piece>> {
    const news: Record<string, Piece> = {};
    for (const plot of this.#plots) {
      if (!plot.read) {
        news[plot.name] = this.#seconds.points(plot, look.second && look.second - overlap);
        continue;
      }
      const choice = look.choices[plot.name] ?? '';
      const key = `${plot.name} ${choice}`;
      const reading = readings.get(key) ?? this.#readPiece(plot, choice);
      readings.set(key, reading);
      const piece = await reading;
      if (look.sent.get(plot.name) !== JSON.stringify(piece)) news[plot.name] = piece;
    }
    return news;
  }

  async #readPiece(plot: Plot, choice: string): Promise<Piece> {
    try {
      const points = await this.read(plot, choice);
      this.#failing.delete(plot.name);
      return { ...points, whole: true };
    } catch (error) {
      if (!this.#failing.has(plot.name)) this.#log.warn({ err: error }, `a plot cannot be read`);
      this.#failing.add(plot.name);
      return { failed: true };
    }
  }

  #changed<Value>(look: Look, name: string, value: Value): Value | undefined {
    const text = JSON.stringify(value);
    if (look.sent.get(name) === text) return undefined;
    look.sent.set(name, text);
    return value;
  }
}

function validChoice({ choices = {} }: Plot, choice: string): string {
  return Object.hasOwn(choices, choice) ? choice : (Object.keys(choices)[0] ?? '');
}
