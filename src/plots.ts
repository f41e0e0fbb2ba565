/**
 * What a service shows at `/dashboard`: src/app/plots.ts returns a list of these, and src/dashboard serves and draws it.
 * As contract.ts, it comes with upgrades. The functions here build values and do nothing else.
 */
import type { TopLevelSpec } from 'vega-lite';

/** The figures of a service, in the order of the page. */
export interface Plots {
  figures: Plot[];
  /**
   * With it, what `live` measures is kept in Redis, for all instances; without it in the primary, for this one. `command`
   * sends a command, such as `['XRANGE', …]`. The key becomes a stream: XADD and XRANGE need rights to it (redis.acl).
   */
  redis?: { key: string; command(words: string[]): Promise<unknown> } | undefined;
}

/** A Date is drawn as a time. Write a day as a text, `2026-11-28`. Other times are milliseconds since the epoch. */
export type Cell = string | number | boolean | null | undefined | Date;
export type Row = Record<string, Cell>;
/** Any object whose fields are cells. */
type Cells<Of> = { [Field in keyof Of]: Cell };

type WithoutData<Spec> = Spec extends unknown ? Omit<Spec, 'data' | '$schema'> : never;
/** A specification of Vega-Lite (https://vega.github.io/vega-lite/docs/) without its data, which are the rows. */
export type Figure = WithoutData<TopLevelSpec>;

export type Plot = AskedPlot | LivePlot | Heading;

interface Shown {
  /** Part of its addresses: lower-case letters, digits and hyphens. */
  name: string;
  title: string;
  /** A sentence below the title. */
  text?: string;
  width?: 'half' | 'whole';
}

/** A figure whose rows are asked for: when it is opened, and when one of its controls changes. */
export interface AskedPlot extends Shown {
  kind: 'plot' | 'table';
  controls: Controls;
  /** Seconds after which an open page asks again. */
  every?: number;
  // biome-ignore lint/suspicious/noExplicitAny: of the controls
  rows(values: any): object[] | Promise<object[]>;
  // biome-ignore lint/suspicious/noExplicitAny: of the controls
  figure?: Figure | ((values: any) => Figure);
}

/** A figure of the last 15 minutes, measured each second by every worker. */
export interface LivePlot extends Shown {
  kind: 'live';
  controls: Controls;
  sample(): unknown;
  // biome-ignore lint/suspicious/noExplicitAny: of the sample
  rows?(samples: Map<string, any>): object[];
  // biome-ignore lint/suspicious/noExplicitAny: of the controls
  figure: Figure | ((values: any) => Figure);
}

export interface Heading {
  kind: 'heading';
  title: string;
  text?: string;
}

/** One control on the page. Figures whose controls have the same name share one, at the top of the page. */
export interface Control<Value> {
  type: 'select' | 'multiSelect' | 'slider' | 'number' | 'text' | 'checkbox' | 'dates';
  /** Its value until someone changes it; undefined: the first of `choices`. */
  value: Value | undefined;
  /** By default its name. */
  label?: string;
  choices?: Choices;
  min?: number | string;
  max?: number | string;
  step?: number;
  maxLength?: number;
}
export type Controls = Record<string, Control<unknown>>;
/** What `rows` and `figure` get of each control, by its name. */
export type ValuesOf<Of extends Controls> = {
  [Name in keyof Of]: Of[Name] extends Control<infer Value> ? Value : never;
};

/** Values, or texts by value. A function is asked whenever a page is opened or a figure asked for. */
export type Choices = ChoiceList | (() => ChoiceList | Promise<ChoiceList>);
type ChoiceList = readonly string[] | Record<string, string>;
/** Days, `2026-11-28`, both included; empty: no end on this side. */
export interface Days {
  from: string;
  to: string;
}

type Asked<Of extends Controls, One> = Shown & {
  controls?: Of;
  /** Seconds after which an open page asks again; by default it does not. */
  every?: number;
  /** The rows for these values of the controls: at most 20,000. What throws is shown in the figure's place. */
  rows(values: ValuesOf<Of>): One[] | Promise<One[]>;
};

/** A figure of any kind. `rows` is called once for the same values, however many ask. */
export function plot<One extends Cells<One> & object, const Of extends Controls = Record<never, never>>({
  controls,
  ...options
}: Asked<Of, One> & { figure: Figure | ((values: ValuesOf<Of>) => Figure) }): Plot {
  return { kind: 'plot', controls: controls ?? {}, ...options };
}

/** Rows as they are: a table that can be sorted. */
export function table<One extends Cells<One> & object, const Of extends Controls = Record<never, never>>({
  controls,
  ...options
}: Asked<Of, One>): Plot {
  return { kind: 'table', controls: controls ?? {}, ...options };
}

/** What the workers measure, each second, for 15 minutes. Its controls change the figure; its rows are the same for all. */
export function live<
  Sample,
  One extends Cells<One> & object,
  const Of extends Controls = Record<never, never>,
>({
  controls,
  ...options
}: Shown & {
  controls?: Of;
  /** What this worker has measured in the second that ends now. It is kept as JSON. */
  sample(): Sample;
  /**
   * The rows of one second, of the samples of all workers, by worker. The field `time` is added. By default one row for
   * each worker: `worker`, and `value` or the fields of the sample.
   */
  rows?(samples: Map<string, Sample>): One[];
  figure: Figure | ((values: ValuesOf<Of>) => Figure);
}): Plot {
  return { kind: 'live', controls: controls ?? {}, ...options };
}

/** A heading with a paragraph, between figures. */
export function heading(title: string, text?: string): Plot {
  return { kind: 'heading', title, ...(text !== undefined && { text }) };
}

type Labelled = { label?: string };

/** One of several choices: the first, or `value`. */
export function select(
  choices: Choices,
  { value, ...options }: Labelled & { value?: string } = {},
): Control<string> {
  return { type: 'select', choices, value, ...options };
}

/** Some of several choices: all of them need not be chosen, nor any. */
export function multiSelect(
  choices: Choices,
  { value = [], ...options }: Labelled & { value?: string[] } = {},
): Control<string[]> {
  return { type: 'multiSelect', choices, value, ...options };
}

/** Without `step` it moves by 1 if `min`, `max` and `value` are whole. */
export function slider(
  options: Labelled & { min: number; max: number; step?: number; value: number },
): Control<number> {
  return { type: 'slider', ...options };
}

/** A number that is typed. */
export function number(
  options: Labelled & { min?: number; max?: number; step?: number; value: number },
): Control<number> {
  return { type: 'number', ...options };
}

/** A line of text, of 200 characters at most unless `maxLength` says otherwise. */
export function text({
  value = '',
  maxLength = 200,
  ...options
}: Labelled & { value?: string; maxLength?: number } = {}): Control<string> {
  return { type: 'text', value, maxLength, ...options };
}

export function checkbox({
  value = false,
  ...options
}: Labelled & { value?: boolean } = {}): Control<boolean> {
  return { type: 'checkbox', value, ...options };
}

/** A range of days, within `min` and `max`. */
export function dates({
  value,
  ...options
}: Labelled & { min?: string; max?: string; value?: Days } = {}): Control<Days> {
  return {
    type: 'dates',
    value: value ?? { from: options.min ?? '', to: options.max ?? '' },
    ...options,
  };
}
