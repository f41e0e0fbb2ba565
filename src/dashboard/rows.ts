/** Rows as they leave: columns for the page, CSV and JSON to be saved. */
import type { Cell } from '../plots.ts';
import type { Columns } from './wire.ts';

/** How many rows a figure may have. */
export const maxRows = 20_000;

export interface Rows {
  columns: Columns;
  count: number;
  /** The fields that are times, in milliseconds since the epoch. */
  times: Set<string>;
}

export function toRows(list: object[], times: string[] = []): Rows {
  const rows: Rows = { columns: {}, count: list.length, times: new Set(times) };
  const columns = new Map<string, Columns[string]>(); // a field may be called __proto__
  for (const [i, row] of list.entries()) {
    for (const [field, value] of Object.entries<Cell>(row as Record<string, Cell>)) {
      let column = columns.get(field);
      if (!column) {
        column = new Array(list.length).fill(null);
        columns.set(field, column);
      }
      if (value instanceof Date) rows.times.add(field);
      column[i] = value instanceof Date ? value.getTime() : (value ?? null);
    }
  }
  rows.columns = Object.fromEntries(columns);
  return rows;
}

/** The fields that a specification names and no row has. One that makes fields of its own, and one without rows: none. */
export function findUnknownFields(spec: object, { columns, count }: Rows): string[] {
  const named = new Set<string>();
  let makes = count === 0;
  JSON.stringify(spec, (key, value) => {
    if (/^(transform|data|repeat)$/.test(key)) makes = true;
    if (key === 'field' && typeof value === 'string') named.add(value.replace(/\\(.)/g, '$1'));
    return value;
  });
  return makes ? [] : [...named].filter((field) => !Object.hasOwn(columns, field));
}

const savedValues = ({ columns, times }: Rows) =>
  Object.entries(columns).map(([field, values]): Columns[string] =>
    times.has(field)
      ? values.map((value) => (typeof value === 'number' ? new Date(value).toISOString() : value))
      : values,
  );

/** RFC 4180, with a line of names. A text that a spreadsheet would take for a formula gets an apostrophe in front. */
export function toCsv(rows: Rows): string {
  const quote = (text: string) => `"${text.replace(/^[=+\-@\t\r]/, "'$&").replaceAll('"', '""')}"`;
  const columns = savedValues(rows);
  const lines = Array.from({ length: rows.count }, (_, i) =>
    columns.map(({ [i]: value }) => (typeof value === 'string' ? quote(value) : (value ?? ''))),
  );
  return [Object.keys(rows.columns).map(quote), ...lines].map((line) => `${line.join(',')}\r\n`).join('');
}

/** A record for each row. */
export function toRecords(rows: Rows): Record<string, unknown>[] {
  const fields = Object.keys(rows.columns);
  const columns = savedValues(rows);
  return Array.from({ length: rows.count }, (_, i) =>
    Object.fromEntries(fields.map((field, column) => [field, columns[column]?.[i]])),
  );
}
