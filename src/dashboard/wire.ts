/** What passes between the server and the page: both sides import this file. Paths are below `/dashboard/`. */

export type Value = string | number | boolean | null;
/** Rows, field by field: each list has `count` values. Times are milliseconds since the epoch. */
export type Columns = Record<string, Value[]>;

/** `plots.json` */
export interface PageOfPlots {
  /** Another one after the code changed: then fetch this and all figures anew. */
  version: string;
  /** Whether live figures show all instances, or this one, since the service handed over no Redis. */
  instance: 'all' | 'this';
  plots: PlotOnPage[];
}

export interface PlotOnPage {
  kind: 'plot' | 'table' | 'live' | 'heading';
  /** Of a heading: empty. */
  name: string;
  title: string;
  text?: string;
  width: 'half' | 'whole';
  /** Seconds. */
  every?: number;
  controls: ControlOnPage[];
}

export interface ControlOnPage {
  name: string;
  type: 'select' | 'multiSelect' | 'slider' | 'number' | 'text' | 'checkbox' | 'dates';
  label: string;
  value: string | string[] | number | boolean | { from: string; to: string };
  choices?: { value: string; text: string }[];
  min?: number | string;
  max?: number | string;
  step?: number;
  maxLength?: number;
}

/**
 * `figures/NAME.json?control=value`: a multiSelect repeats its name (once and empty: none is chosen), a checkbox is
 * `true` or `false`, dates are `name.from` and `name.to`. A control that is left out has its own value. `points=N` thins a
 * live figure to what N pixels can show. The same query with `NAME.csv` and `NAME.rows.json` has the rows to be saved.
 */
export interface FigureOnPage {
  /** Vega-Lite without data; null: a table. */
  spec: object | null;
  columns: Columns;
  /** Rows. */
  count: number;
  /** The fields that were dates. */
  times: string[];
  /** Milliseconds since the epoch. */
  at: number;
}

/** The body of each answer of 400 and above. */
export interface Failure {
  error: {
    /** Text to be shown. In development, what the owner's code threw. */
    message: string;
    /** In development `src/app/plots.ts:12`. */
    line?: string;
    requestId: string;
  };
}

/** `events`: the event `hello` comes first. */
export interface Hello {
  version: string;
}

/**
 * `events`: a message without a name, once a second. Each figure has the rows of the last 3 seconds up to `second`, which
 * replace what is known of these seconds. Whoever missed more fetches the figure anew. Event `away`: no news for now.
 */
export interface Frame {
  /** Since the epoch: the last one that is complete. */
  second: number;
  /** By the figure's name. */
  live: Record<string, Columns>;
}
