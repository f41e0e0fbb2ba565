import type { Columns, Failure, FigureOnPage, PlotOnPage } from '../wire.ts';
import type { Pairs } from './controls.ts';
import { element } from './dom.ts';
import { Drawing, type Row, textOf, timesOf, toRows } from './drawing.ts';
import { Table } from './table.ts';

const kept = 15 * 60_000; // milliseconds of a live figure
const overlap = 3; // seconds of each frame that are sent again
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** A figure with all that stands around it. */
export class Card {
  readonly element: HTMLElement;
  readonly plot: PlotOnPage;
  /** Where its own controls stand. */
  readonly tools = element('div', { className: 'controls' });
  readonly #changed: () => Pairs;
  readonly #stage = element('div', { className: 'stage' }, element('p', { className: 'note' }, 'Loading …'));
  readonly #drawing = new Drawing(this.#stage);
  readonly #table: Table;
  readonly #details = element('details', { ontoggle: () => this.#showTable() });
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
    const hidden = (text: string) => element('span', { className: 'hidden' }, text);
    const title = element('h2', { id: `${plot.name}-title` }, plot.title);
    this.#links = ['CSV', 'JSON'].map((text) =>
      element('a', { download: '' }, text, hidden(` of ${plot.title}`)),
    );
    this.#details.append(
      element('summary', {}, 'As a table', hidden(`: ${plot.title}`)),
      this.#table.element,
    );
    const onclick = () => this.#saveSvg();
    const svg = element('button', { type: 'button', onclick }, 'SVG', hidden(` of ${plot.title}`));
    const footer = element('footer', {}, this.#details, this.#note, ...this.#links, svg);
    this.#details.hidden = svg.hidden = plot.kind === 'table';
    const header = element('header', {}, title, element('p', {}, plot.text ?? ''));
    this.element = element('section', { className: `card ${plot.width}`, id: plot.name }, header);
    this.element.append(this.tools, this.#stage, footer);
    this.element.setAttribute('aria-labelledby', title.id);
  }

  /** Asks the server for the figure as the controls stand. What was asked before no longer counts. */
  async ask(): Promise<void> {
    this.end();
    this.#asking = new AbortController();
    const { signal } = this.#asking;
    this.element.ariaBusy = 'true';
    const search = new URLSearchParams(this.#changed());
    const address = (kind: string) => `dashboard/figures/${this.plot.name}.${kind}?${search}`;
    for (const [i, kind] of ['csv', 'rows.json'].entries())
      Object.assign(this.#links[i] ?? {}, { href: address(kind) });
    if (this.plot.kind === 'live') search.set('points', String(Math.max(200, this.#stage.clientWidth)));
    try {
      const answer = await fetch(address('json'), { signal });
      const body: FigureOnPage | Failure = await answer.json();
      if ('error' in body) this.#fail(body.error, Number(answer.headers.get('Retry-After')));
      else await this.#show(body);
    } catch (error) {
      if ((error as Error).name !== 'AbortError')
        this.#fail({ message: `The figure cannot be shown: ${(error as Error).message}` }, 5);
    }
    if (signal.aborted) return;
    this.element.ariaBusy = 'false';
    if (this.plot.every) this.#askIn(this.plot.every);
  }

  /** Asks again after these seconds, if somebody looks then. */
  #askIn(seconds: number): void {
    const ask = () => (document.hidden || Card.paused ? this.#askIn(seconds) : this.ask());
    clearTimeout(this.#again);
    this.#again = setTimeout(ask, 1_000 * seconds);
  }
  /** Whether nothing moves on the page. */
  static paused = false;

  async #show({ spec, columns, times, at }: FigureOnPage): Promise<void> {
    this.#spec = spec;
    this.#times = timesOf(spec);
    for (const field of times) this.#times.fields.add(field);
    this.#rows = toRows(columns, this.#times);
    this.#second = Math.floor(at / 1_000);
    this.#note.textContent =
      spec && this.#times.fields.size > 0 ? `times in ${this.#times.utc ? 'UTC' : zone}` : '';
    await this.draw();
  }

  /** Draws what it has; after `anew` in the colours of now. */
  async draw(anew = false): Promise<void> {
    if (this.#rows.length === 0) {
      if (this.#second > 0) this.#tell(element('p', { className: 'note' }, 'No rows.'));
    } else if (this.#spec) {
      await this.#drawing.show(this.#spec, this.#rows, this.#describe(), anew);
    } else if (this.#table.element.parentNode !== this.#stage) {
      this.#tell(this.#table.element);
    }
    this.#showTable();
  }

  /** Takes the newest seconds of a live figure, or asks for those that it has missed. */
  add(columns: Columns, second: number): void {
    if (this.#second === 0) return; // it has not come yet
    if (second - this.#second > overlap) this.ask();
    this.#second = Math.max(second, this.#second);
    const isKept = ({ time }: Row) =>
      (time as number) <= 1_000 * (second - overlap) && (time as number) > 1_000 * second - kept;
    this.#rows = this.#rows.filter(isKept).concat(toRows(columns, this.#times));
  }

  #showTable(): void {
    if (this.#details.open || !this.#spec) this.#table.show(this.#rows, this.#times);
  }

  #tell(instead: Node): void {
    this.#drawing.clear();
    this.#stage.replaceChildren(instead);
  }

  #fail({ message, line, requestId }: Partial<Failure['error']>, retryAfter: number): void {
    this.#second = 0;
    const where = element('code', {}, line ?? (requestId && `request ${requestId}`) ?? '');
    this.#tell(
      element('div', { className: 'failed', role: 'alert' }, element('p', {}, message ?? ''), where),
    );
    if (retryAfter > 0 || this.plot.kind === 'live') this.#askIn(retryAfter || 5);
  }

  /** What a screen reader says in place of the picture. */
  #describe(): string {
    const fields = Object.keys(this.#rows[0] ?? {}).map((field) => {
      let [least, most] = [this.#rows[0]?.[field] ?? null, this.#rows[0]?.[field] ?? null];
      for (const { [field]: value = null } of this.#rows) {
        if (value !== null && (least === null || value < least)) least = value;
        if (value !== null && (most === null || value > most)) most = value;
      }
      return `${field} from ${textOf(least, field, this.#times)} to ${textOf(most, field, this.#times)}`;
    });
    return `${this.plot.title}: ${this.#rows.length} rows; ${fields.join('; ')}`;
  }

  async #saveSvg(): Promise<void> {
    const svg = (await this.#drawing.toSvg()) ?? '';
    const href = URL.createObjectURL(new Blob([svg], { type: 'image/svg+xml' }));
    element('a', { href, download: `${this.plot.name}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }

  /** No more answers come in. */
  end(): void {
    this.#asking?.abort();
    clearTimeout(this.#again);
  }

  remove(): void {
    this.end();
    this.#drawing.clear();
  }
}
