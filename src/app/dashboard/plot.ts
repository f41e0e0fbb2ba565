/** What a plot is. plots.ts has the table of them. */

export interface Plot {
  /** Part of its addresses: lower-case letters, digits and hyphens. */
  name: string;
  title: string;
  unit: string;
  /** Bars instead of lines. */
  bars?: boolean;
  /** Kinds of reading that the viewer may choose from, the first by default: value → text. `read` gets the value. */
  choices?: Record<string, string>;
  /** Reads the points from wherever they are. Called once a second while somebody looks. */
  read?(choice: string): Promise<Points>;
  /** Or: what this worker has to tell of the second that ends now. It is kept for 15 minutes. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever `combine` understands
  sample?(): any;
  /** Makes values to be drawn of what all workers told. By default each worker's number is a line of its own. */
  // biome-ignore lint/suspicious/noExplicitAny: what `sample` returned
  combine?(samples: Map<string, any>): Values;
}

/** The value of each line, by its label. */
export type Values = Record<string, number | null>;

/** Points of several lines at the same times. */
export interface Points {
  /** Seconds since the epoch, ascending. */
  times: number[];
  /** Label → a value for each time; null: there is none. */
  lines: Record<string, (number | null)[]>;
}

/** Points with these values at each time. */
export function toPoints(values: Map<number, Values>): Points {
  const times = [...values.keys()].sort((a, b) => a - b);
  const labels = new Set(times.flatMap((time) => Object.keys(values.get(time) ?? {})));
  const lines = [...labels].map((label) => [label, times.map((time) => values.get(time)?.[label] ?? null)]);
  return { times, lines: Object.fromEntries(lines) };
}

/** One row a time; a spreadsheet understands the times, which are UTC. */
export function toCsv({ times, lines }: Points): string {
  const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const rows = times.map((time, i) => [
    new Date(time * 1000).toISOString().replace('T', ' ').slice(0, 19),
    ...Object.values(lines).map((values) => values[i] ?? ''),
  ]);
  return [['time', ...Object.keys(lines)].map(quote), ...rows].map((row) => `${row.join(',')}\r\n`).join('');
}
