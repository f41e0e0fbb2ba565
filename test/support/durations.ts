/** The tables of a page of docs, by default durations.md: which duration must be shorter than which, and where each of them is written. */
import { readFileSync } from 'node:fs';

/** A sum of durations, as '`proxy_read_timeout` 5 s' or '4 × `maxHeartbeatInterval` 1 s'. */
export type Sum = { times: number; name: string; milliseconds: number }[];

export interface Relation {
  row: string;
  shorter: Sum;
  longer: Sum;
}

export interface Place {
  row: string;
  name: string;
  milliseconds: number;
  /** Where it is written; empty where the heading of the table says so. */
  home: string;
}

/** The rows of all tables whose header begins with these cells. */
function rowsUnder(file: string, ...header: string[]): string[][] {
  const page = readFileSync(file, 'utf8');
  const tables = page.match(/(?:^\|.*\|\n)+/gm) ?? [];
  return tables.flatMap((table) => {
    const [first = [], , ...rows] = table
      .trimEnd()
      .split('\n')
      .map((line) =>
        line
          .slice(1, -1)
          .split('|')
          .map((cell) => cell.trim()),
      );
    return header.every((name, i) => first[i] === name) ? rows : [];
  });
}

function toMilliseconds(value: string | undefined, unit: string | undefined): number {
  const factor = { ms: 1, s: 1_000 }[unit ?? ''];
  if (!factor || !value) throw new Error(`${value} ${unit} is no duration`);
  return Number(value) * factor;
}

function parseSum(cell: string): Sum {
  return cell.split(' + ').map((term) => {
    const [, times = '1', name, value, unit] =
      /^(?:(\d+) × )?((?:[a-z -]+ )?`[^`]+`) ([\d.]+) (ms|s)$/.exec(term) ?? [];
    if (!name) throw new Error(`docs: ${term} is no duration`);
    return { times: Number(times), name, milliseconds: toMilliseconds(value, unit) };
  });
}

/** The first table: what must be shorter than what. */
export function readRelations(file = 'docs/durations.md'): Relation[] {
  return rowsUnder(file, 'shorter', 'longer').map(([shorter = '', longer = '']) => ({
    row: `${shorter} | ${longer}`,
    shorter: parseSum(shorter),
    longer: parseSum(longer),
  }));
}

/** The other tables: a row may have several names, and as many values or one for all. */
export function readPlaces(file = 'docs/durations.md'): Place[] {
  const rows = [
    ...rowsUnder(file, 'duration', 'value', 'home'),
    ...rowsUnder(file, 'duration', 'value', 'who waits for what').map(noHome),
  ];
  return rows.flatMap(([names = '', values = '', home = '']) => {
    const [, prefix = '', list = ''] = /^([^`]*?)(`.*)$/.exec(names) ?? [];
    const units = [...values.matchAll(/([\d.]+)(?: (ms|s))?/g)];
    const lastUnit = units.at(-1)?.[2];
    return list.split(', ').map((name, i) => {
      const [, value, unit = lastUnit] = units[i] ?? units[0] ?? [];
      return {
        row: `${names} | ${values} | ${home}`,
        name: `${prefix.replace(/:\s*$/, '').trim()} ${name}`.trim(),
        milliseconds: toMilliseconds(value, unit),
        home,
      };
    });
  });
}

const noHome = ([names = '', values = '']: string[]) => [names, values, ''];

/** Milliseconds of a duration as nginx, Docker and Compose write it: 200ms, 0.5s, 30s. */
export function parseDuration(text: string | undefined): number {
  const [, value, unit] = /^([\d.]+)(ms|s)$/.exec(text ?? '') ?? [];
  return toMilliseconds(value, unit);
}

/** Milliseconds of a variable that a shell script gives so many seconds. */
export function readShellSeconds(file: string, name: string): number {
  return Number(new RegExp(`^${name}=(\\d+)`, 'm').exec(readFileSync(file, 'utf8'))?.[1]) * 1_000;
}

export function total(sum: Sum): number {
  return sum.reduce((milliseconds, term) => milliseconds + term.times * term.milliseconds, 0);
}
