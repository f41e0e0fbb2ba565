/** Draws specifications of Vega-Lite. The policy of the page forbids eval, so Vega's interpreter reads its expressions. */
import { type Config, Error as ErrorLevel, logger, parse, View } from 'vega';
import { expressionInterpreter } from 'vega-interpreter';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Columns, Value } from '../wire.ts';
import { element } from './dom.ts';

export type Row = Record<string, Value>;

/** What a figure says of times: the fields that are times, and whether it shows them in UTC. */
export interface Times {
  fields: Set<string>;
  utc: boolean;
}

export function timesOf(spec: object | null): Times {
  const fields = new Set<string>(spec ? [] : ['time']);
  const text = JSON.stringify(spec, (_, part) => {
    if (part?.field && (part.timeUnit || part.type === 'temporal')) fields.add(part.field);
    return part;
  });
  return { fields, utc: /"utc/.test(text) };
}

/** Rows of what came field by field. A day begins where the viewer is, or in UTC if the figure shows UTC. */
export function toRows(columns: Columns, { fields, utc }: Times): Row[] {
  const toTime = (value: Value) => {
    if (typeof value !== 'string') return value;
    const isDay = /^\d{4}(-\d\d){0,2}$/.test(value);
    return Date.parse(isDay ? `${value}${'-01-01'.slice(value.length - 4)}T00:00${utc ? 'Z' : ''}` : value);
  };
  const rows: Row[] = [];
  for (const [field, values] of Object.entries(columns)) {
    for (const [i, value] of values.entries()) {
      rows[i] ??= {};
      rows[i][field] = fields.has(field) ? toTime(value) : value;
    }
  }
  return rows;
}

/** A value of a field as it is read: a time in the zone that the figure shows. */
export function textOf(value: Value | undefined, field: string, { fields, utc }: Times): string {
  if (!fields.has(field) || typeof value !== 'number') return String(value ?? '');
  return new Date(value).toLocaleString(undefined, utc ? { timeZone: 'UTC' } : {});
}

/** The colours and the font of the style sheet, as Vega takes them, for a figure of this width. */
function theme(width: number): Config {
  const probe = document.body.appendChild(element('i'));
  const { fontFamily: font } = getComputedStyle(probe);
  const colour = (name: string) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const [text, muted, line] = [colour('text'), colour('muted'), colour('line')];
  const ramp = ['low', 'c1', 'high'].map(colour);
  const label = { labelFont: font, labelColor: muted, labelFontSize: 12, labelPadding: 6 };
  const title = { titleFont: font, titleColor: muted, titleFontSize: 12, titleFontWeight: 'normal' };
  const config = {
    background: colour('card'),
    font,
    padding: 4,
    view: { stroke: 'transparent', continuousHeight: 310, discreteHeight: { step: 22 } },
    axis: { ...label, ...title, gridColor: line, domainColor: line, tickColor: line, titlePadding: 10 },
    axisX: { grid: false, labelOverlap: true },
    axisY: { domain: false, ticks: false, tickCount: 5 },
    legend: {
      ...label,
      ...title,
      orient: 'top',
      symbolType: 'circle',
      offset: 8,
      columns: Math.ceil(width / 160),
    },
    header: { ...label, ...title, labelColor: text },
    title: { font, color: text },
    text: { font, color: text },
    rule: { color: muted },
    mark: { color: colour('c1'), tooltip: true },
    bar: { cornerRadiusEnd: 2 },
    line: { strokeCap: 'round', strokeJoin: 'round', strokeWidth: 2.5, tooltip: null },
    area: { fillOpacity: 0.7, tooltip: null },
    point: { filled: true, opacity: 0.75, size: 40 },
    range: { category: [1, 2, 3, 4, 5, 6, 7, 8].map((i) => colour(`c${i}`)), ramp, heatmap: ramp },
  };
  probe.remove();
  return config as unknown as Config;
}

/** Times of day are of 24 hours, and ticks between two seconds have no text. Vega's types do not have its `locale`. */
function setClock(view: unknown): void {
  const clock = { hours: '%H:%M', minutes: '%H:%M', seconds: '%H:%M:%S', milliseconds: ' ' };
  type Format = (format?: object | string) => unknown;
  const { locale } = Object.getPrototypeOf(view) as {
    locale(own?: object): Record<'timeFormat' | 'utcFormat', Format>;
  };
  const before = locale.call(view);
  const timeFormat: Format = (format) => before.timeFormat(format ?? clock);
  const utcFormat: Format = (format) => before.utcFormat(format ?? clock);
  locale.call(view, { ...before, timeFormat, utcFormat });
}

/** A line of one point has no length, and a canvas draws nothing of it: with a hundredth of a pixel it draws a dot. */
function showLonePoints(container: Element): void {
  const context = container.querySelector('canvas')?.getContext('2d');
  if (!context) return;
  const { beginPath, moveTo, closePath } = CanvasRenderingContext2D.prototype;
  let start: [x: number, y: number] | undefined;
  context.beginPath = () => {
    start = undefined;
    beginPath.call(context);
  };
  context.moveTo = (...point) => {
    start = point;
    moveTo.call(context, ...point);
  };
  context.closePath = () => {
    if (start) context.lineTo(start[0] + 0.01, start[1]);
    closePath.call(context);
  };
}

/** The one box beside the pointer. */
const tip = element('div', { className: 'tip' });
function showTip(_: unknown, event: MouseEvent | null, __: unknown, value: unknown): void {
  tip.remove();
  if (!event || value === null || value === undefined || value === '') return;
  const pairs: [string, unknown][] = typeof value === 'object' ? Object.entries(value) : [['', value]];
  tip.replaceChildren(...pairs.map(([name, text]) => element('div', {}, element('b', {}, name), ` ${text}`)));
  document.body.append(tip);
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}

/** One figure in its place on the page. */
export class Drawing {
  readonly #stage: HTMLElement;
  #view: View | undefined;
  #spec = '';
  #turn = 0;

  constructor(stage: HTMLElement) {
    this.#stage = stage;
  }

  /** Draws; the picture before stays until the new one is there. What Vega throws rejects. */
  async show(spec: object, rows: Row[], description: string, anew = false): Promise<void> {
    const text = JSON.stringify(spec);
    if (this.#view && text === this.#spec && !anew) {
      await this.#view.description(description).data('rows', rows).runAsync();
      return;
    }
    this.#turn += 1;
    const turn = this.#turn;
    const container = element('div', { className: 'drawing' });
    this.#stage.append(container);
    try {
      // A figure of several parts has the width that its parts have.
      const fits = ('mark' in spec || 'layer' in spec) && !/"(row|column|facet)":/.test(text);
      const whole = {
        ...(fits && { width: 'container', autosize: { type: 'fit', contains: 'padding' } }),
        ...spec,
        description,
        data: { name: 'rows' },
      };
      const { spec: vega } = compile(whole as TopLevelSpec, {
        config: theme(this.#stage.clientWidth) as object,
        logger: logger(ErrorLevel),
      });
      const view = new View(parse(vega, undefined, { ast: true }), {
        expr: expressionInterpreter,
        container,
        hover: true,
        logLevel: ErrorLevel,
        tooltip: showTip as never,
      });
      setClock(view);
      showLonePoints(container);
      await view.data('rows', rows).runAsync();
      if (turn !== this.#turn) throw new DOMException('overtaken', 'AbortError');
      this.clear(container);
      this.#view = view;
      this.#spec = text;
      container.role = 'img';
      this.#stage.tabIndex = this.#stage.scrollWidth > this.#stage.clientWidth ? 0 : -1; // so that keys scroll it
    } catch (error) {
      container.remove();
      throw error;
    }
  }

  /** Removes what is drawn, but for this element. */
  clear(keep?: Element): void {
    this.#view?.finalize();
    this.#view = undefined;
    this.#stage.replaceChildren(...(keep ? [keep] : []));
  }

  toSvg(): Promise<string> | undefined {
    return this.#view?.toSVG();
  }
}
