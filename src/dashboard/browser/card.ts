import type { Columns, Failure, FigureOnPage, PlotOnPage } from '../wire.ts';
import type { Pairs } from './controls.ts';
import { element } from './dom.ts';
import { Drawing, type Row, timesOf, toRows } from './drawing.ts';
import { Table, textOf } from './table.ts';

const kept = 15 * 60_000; // milliseconds of a live figure
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** A figure with all that stands around it. */
export class Card {
  readonly element: HTMLElement;
  readonly plot: PlotOnPage;
  /** Shows its own controls. */
  readonly tools = element('div', { className: 'controls' });
  readonly #changed: () => Pairs;
  readonly #stage = element('div', { className: 'stage' }, element('p', { className: 'note' }, 'Loading …'));
  readonly #drawing = new Drawing(this.#stage);
  readonly #table: Table;
  readonly #details: HTMLDetailsElement;
  readonly #note = element('small');
  readonly #links: HTMLAnchorElement[];
  #asking: AbortController | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #spec: object | null = null;
  #times = timesOf(null);
  #rows: Row[] = [];
  #second = 0;

  /** `changed`: what of its controls was changed. */
  constructor(plot: PlotOnPage, changed: () => Pairs) {
    this.plot = plot;
    this.#changed = changed;
    this.#table = new Table(plot.title);
    const title = element('h2', { id: `${plot.name}-title` }, plot.title);
    const hint = element('span', { className: 'hidden' }, ` of ${plot.title}`);
    const link = (text: string) => element('a', { download: '' }, text, hint.cloneNode(true));
    this.#links = [link('CSV'), link('JSON')];
    const svg = element(
      'button',
      { type: 'button', onclick: () => this.#saveSvg() },
      'SVG',
      hint.cloneNode(true),
    );
    const summary = element(
      'summary',
      {},
      'As a table',
      element('span', { className: 'hidden' }, `: ${plot.title}`),
    );
    this.#details = element('details', { ontoggle: () => this.#showTable() }, summary, this.#table.element);
    const isTable = plot.kind === 'table';
    this.element = element(
      'section',
      { className: `card ${plot.width}`, id: plot.name },
      element('header', {}, title, element('p', {}, plot.text ?? '')),
      this.tools,
      this.#stage,
      element(
        'footer',
        {},
        ...(isTable ? [] : [this.#details]),
        this.#note,
        ...this.#links,
        ...(isTable ? [] : [svg]),
      ),
    );
    this.element.setAttribute('aria-labelledby', title.id);
  }

  /** Asks the server for the figure as the controls stand. What was asked before no longer counts. */
  async ask(): Promise<void> {
    this.#asking?.abort();
    clearTimeout(this.#again);
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.element.ariaBusy = 'true';
    const search = new URLSearchParams(this.#changed());
    const query = search.size > 0 ? `?${search}` : '';
    const address = `dashboard/figures/${this.plot.name}`;
    for (const [i, kind] of ['csv', 'rows.json'].entries()) {
      (this.#links[i] as HTMLAnchorElement).href = `${address}.${kind}${query}`;
    }
    if (this.plot.kind === 'live') search.set('points', String(Math.max(200, this.#stage.clientWidth)));
    try {
      const answer = await fetch(`${address}.json?${search}`, { signal });
      const body = await answer.json();
      if (signal.aborted) return;
      if (answer.ok) await this.#show(body);
      else this.#fail(body.error, Number(answer.headers.get('Retry-After')));
    } catch (error) {
      if (!signal.aborted)
        this.#fail({ message: `The figure cannot be shown: ${(error as Error).message}` }, 3);
    }
    if (signal.aborted) return;
    this.element.ariaBusy = 'false';
    if (this.plot.every) this.askIn(this.plot.every);
  }

  /** Asks again after these seconds, if somebody looks then. */
  askIn(seconds: number): void {
    clearTimeout(this.#again);
    this.#again = setTimeout(
      () => (document.hidden || Card.paused ? this.askIn(seconds) : this.ask()),
      1_000 * seconds,
    );
  }
  /** Whether nothing moves on the page. */
  static paused = false;

  async #show({ spec, columns, count, at }: FigureOnPage): Promise<void> {
    this.#spec = spec;
    this.#times = timesOf(spec);
    this.#rows = toRows(columns, this.#times);
    this.#second = Math.floor(at / 1_000);
    const hasTimes = this.#times.fields.size > 0 && spec;
    this.#note.textContent = hasTimes ? `times in ${this.#times.utc ? 'UTC' : zone}` : '';
    if (count === 0) return this.#tell(element('p', { className: 'note' }, 'No rows.'));
    await this.draw();
  }

  /** Draws what it has. */
  async draw(): Promise<void> {
    if (this.#rows.length === 0) return;
    if (this.#spec) await this.#drawing.show(this.#spec, this.#rows, this.#describe());
    else if (this.#table.element.parentNode !== this.#stage) this.#tell(this.#table.element);
    this.#showTable();
  }

  /** Draws anew, in the colours of now. */
  redraw(): Promise<void> {
    this.#drawing.forget();
    return this.draw();
  }

  /** Takes the newest seconds of a live figure. Returns whether it has missed none. */
  add(columns: Columns, second: number): void {
    if (this.#second === 0) return; // it has not come yet
    if (second - this.#second > 3) this.ask();
    this.#second = Math.max(second, this.#second);
    const rows = toRows(columns, this.#times);
    const first = (second - 2) * 1_000;
    const time = ({ time }: Row) => time as number;
    this.#rows = this.#rows
      .filter((row) => time(row) < first && time(row) > second * 1_000 - kept)
      .concat(rows);
  }

  #showTable(): void {
    if (this.#details.open || !this.#spec) this.#table.show(this.#rows, this.#times.fields);
  }

  #tell(instead: Node): void {
    this.#drawing.clear();
    this.#stage.replaceChildren(instead);
  }

  #fail({ message, line, requestId }: Partial<Failure['error']>, retryAfter: number): void {
    const where = line ?? (requestId && `request ${requestId}`);
    this.#tell(
      element(
        'div',
        { className: 'failed', role: 'alert' },
        element('p', {}, message ?? ''),
        element('code', {}, where ?? ''),
      ),
    );
    if (retryAfter > 0) this.askIn(retryAfter);
  }

  /** What a screen reader says in place of the picture. */
  #describe(): string {
    const fields = Object.keys(this.#rows[0] ?? {}).map((field) => {
      const values = this.#rows.map((row) => row[field] ?? null).filter((value) => value !== null);
      const sorted = values.sort((a, b) => (a < b ? -1 : Number(a > b)));
      const ends = [sorted[0], sorted.at(-1)].map((value) => textOf(value, this.#times.fields.has(field)));
      return `${field} from ${ends.join(' to ')}`;
    });
    return `${this.plot.title}: ${this.#rows.length} rows; ${fields.join('; ')}`;
  }

  async #saveSvg(): Promise<void> {
    const svg = await this.#drawing.toSvg();
    if (!svg) return;
    const href = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
    element('a', { href, download: `${this.plot.name}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }

  /** No more answers come in. */
  end(): void {
    this.#asking?.abort();
    clearTimeout(this.#again);
    this.#drawing.clear();
  }
}
