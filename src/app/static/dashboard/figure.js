/** One figure: the plot, a sentence, a table and its controls. */
import { find } from './stream.js';

/** @typedef {import('uplot')} Plot */
/** @typedef {import('uplot').AlignedData} Data */
/** @typedef {{ at: number, type: string, worker: number }} Mark */

// A file of its own, loaded before: it is no module.
const uPlot = /** @type {typeof import('uplot')} */ (Reflect.get(globalThis, 'uPlot'));

const height = 220;
const rows = 60; // of the table; the file has all
const kept = 15 * 60; // seconds
const dashes = [[], [8, 4], [2, 3], [10, 3, 2, 3]]; // colour is not the only sign

/** @param {string} name */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class FigureOfPlot {
  /** @type {number[]} */
  #times = [];
  /** @type {Map<string, Map<number, number | null>>} label → time → value */
  #lines = new Map();
  /** @type {Plot | undefined} */
  #plot;
  #drawn = '';
  #whole = false;
  #zoomed = false;

  /**
   * @param {HTMLElement} figure
   * @param {() => Mark[]} marks
   * @param {(text: string) => void} say
   */
  constructor(figure, marks, say) {
    this.figure = figure;
    this.marks = marks;
    this.say = say;
    this.unit = figure.dataset.unit ?? '';
    this.title = find(figure, 'h2', HTMLElement).firstChild?.textContent?.trim() ?? '';
    this.place = find(figure, '.plot', HTMLElement);
    this.now = find(figure, '.now', HTMLElement);
    this.reset = find(figure, '.reset', HTMLButtonElement);
    this.details = find(figure, 'details', HTMLDetailsElement);
    this.select = figure.querySelector('select');
    this.reset.addEventListener('click', () => this.#unzoom());
    this.place.addEventListener('keydown', (event) => this.#moveCursor(event));
    this.details.addEventListener('toggle', () => this.#fillTable());
    this.select?.addEventListener('change', () => this.#choose());
    new ResizeObserver(() => this.#plot?.setSize({ width: this.place.clientWidth, height })).observe(
      this.place,
    );
  }

  get choice() {
    return this.select?.value ?? '';
  }

  #choose() {
    const link = find(this.figure, '.csv', HTMLAnchorElement);
    link.href = `dashboard/${this.figure.id}.csv?choice=${encodeURIComponent(this.choice)}`;
    this.#zoomed = false;
  }

  /** @param {any} piece points to be added, or all of them, or that they cannot be read */
  add(piece) {
    this.figure.classList.toggle('failed', piece.failed === true);
    if (piece.failed) {
      this.now.textContent = 'cannot be read now';
      return;
    }
    this.#whole = piece.whole === true;
    if (this.#whole) {
      this.#times = [];
      this.#lines.clear();
    }
    const times = new Set([...this.#times, ...piece.times]);
    for (const [label, values] of Object.entries(piece.lines)) {
      const line = this.#lines.get(label) ?? new Map();
      this.#lines.set(label, line);
      for (const [i, time] of piece.times.entries()) line.set(time, values[i]);
    }
    this.#times = [...times].sort((a, b) => a - b);
    if (!this.#whole) this.#forget();
  }

  #forget() {
    const oldest = (this.#times.at(-1) ?? 0) - kept;
    this.#times = this.#times.filter((time) => time > oldest);
    for (const [label, line] of this.#lines) {
      for (const time of line.keys()) if (time <= oldest) line.delete(time);
      if (line.size === 0) this.#lines.delete(label);
    }
  }

  /** @param {{ anew?: boolean }} options `anew`: with other colours */
  draw({ anew = false } = {}) {
    if (this.figure.classList.contains('failed')) return;
    const labels = [...this.#lines.keys()];
    this.#describe();
    if (this.details.open) this.#fillTable();
    const values = labels.map((label) =>
      this.#times.map((time) => this.#lines.get(label)?.get(time) ?? null),
    );
    const data = /** @type {Data} */ ([this.#times, ...values]);
    if (anew || !this.#plot || this.#drawn !== labels.join('\n')) {
      this.#plot?.destroy();
      this.#plot = new uPlot(this.#options(labels), data, this.place);
      this.#plot.over.addEventListener('dblclick', () => this.#unzoom());
      this.#drawn = labels.join('\n');
      this.#zoomed = false;
    } else {
      this.#plot.setData(data, !this.#zoomed);
      if (this.#zoomed) this.#plot.redraw();
    }
    this.reset.disabled = !this.#zoomed;
  }

  #describe() {
    const last = this.#times.at(-1);
    let text = 'no data yet';
    if (last !== undefined && this.#lines.size > 0) {
      const all = [...this.#lines.values()]
        .flatMap((line) => [...line.values()])
        .filter((value) => value !== null);
      const name = (/** @type {string} */ label) => (this.#lines.size > 1 ? `${label} ` : '');
      const now = [...this.#lines]
        .slice(0, 4)
        .map(([label, line]) => `${name(label)}${line.get(last) ?? 'none'}`);
      text = `now ${now.join(', ')}; at most ${all.reduce((most, value) => Math.max(most, value), 0)} ${this.unit}`;
    }
    this.now.textContent = text;
    this.place.setAttribute('aria-label', `${this.title}: ${text}`);
  }

  /**
   * @param {string[]} labels
   * @returns {import('uplot').Options}
   */
  #options(labels) {
    const bars = this.figure.dataset.bars === 'true' && uPlot.paths.bars?.({ size: [0.7, 40] });
    const axis = { stroke: colour('--text'), grid: { stroke: colour('--grid'), width: 1 } };
    return {
      width: this.place.clientWidth,
      height,
      series: [
        {},
        ...labels.map((label, i) => ({
          label,
          stroke: colour(`--line-${(i % 6) + 1}`),
          width: 2,
          dash: dashes[i % dashes.length] ?? [],
          ...(bars && { paths: bars, fill: colour('--line-1'), points: { show: false } }),
        })),
      ],
      axes: [axis, { ...axis, size: 60 }],
      scales: { y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.1 : 1] } },
      cursor: { drag: { x: true, y: false } },
      hooks: {
        setSelect: [
          (plot) => {
            this.#zoomed = plot.select.width > 0;
            this.reset.disabled = !this.#zoomed;
          },
        ],
        draw: [(plot) => this.#drawMarks(plot)],
      },
    };
  }

  /** A line with the first letter of what happened; below the figures it is told in words. @param {Plot} plot */
  #drawMarks(plot) {
    if (this.#whole) return;
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour('--mark');
    ctx.textAlign = 'left';
    ctx.setLineDash([4, 4]);
    ctx.font = `${12 * devicePixelRatio}px system-ui`;
    for (const { at, type } of this.marks()) {
      const x = plot.valToPos(at / 1000, 'x', true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText(type.slice(0, 1).toUpperCase(), x + 3, bbox.top + 12 * devicePixelRatio);
    }
    ctx.restore();
  }

  #unzoom() {
    this.#zoomed = false;
    this.reset.disabled = true;
    this.#plot?.setData(this.#plot.data, true);
  }

  /** @param {KeyboardEvent} event */
  #moveCursor({ key }) {
    const plot = this.#plot;
    if (!plot || this.#times.length === 0) return;
    if (key === 'Escape') this.#unzoom();
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (!step) return;
    const last = this.#times.length - 1;
    const index = Math.min(Math.max((plot.cursor.idx ?? last) + step, 0), last);
    const time = this.#times[index] ?? 0;
    plot.setCursor({ left: plot.valToPos(time, 'x'), top: 10 });
    const values = [...this.#lines].map(([label, line]) => `${label} ${line.get(time) ?? 'none'}`);
    this.say(`${toTime(time)}: ${values.join(', ')} ${this.unit}`);
  }

  #fillTable() {
    if (!this.details.open) return;
    const table = find(this.details, 'table', HTMLTableElement);
    const labels = [...this.#lines.keys()];
    table.replaceChildren();
    table.createCaption().textContent = `${this.title}, in ${this.unit}, the latest first`;
    addRow(table.createTHead(), ['time', ...labels], 'col');
    const body = table.createTBody();
    for (const time of this.#times.slice(-rows).reverse()) {
      addRow(body, [toTime(time), ...labels.map((label) => this.#lines.get(label)?.get(time) ?? '')], 'row');
    }
  }
}

/** @param {number} time */
const toTime = (time) => new Date(time * 1000).toLocaleString();

/**
 * @param {HTMLTableSectionElement} section
 * @param {(string | number)[]} cells
 * @param {'col' | 'row'} scope of the headings: all cells, or the first one
 */
function addRow(section, cells, scope) {
  const row = section.insertRow();
  for (const [i, text] of cells.entries()) {
    const cell = document.createElement(scope === 'col' || i === 0 ? 'th' : 'td');
    if (cell.tagName === 'TH') cell.setAttribute('scope', scope);
    cell.textContent = String(text);
    row.append(cell);
  }
}
