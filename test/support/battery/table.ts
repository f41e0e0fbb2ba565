/**
 * The table of a battery: each test adds its row, and at the end jest prints the whole (its globalTeardown) and leaves
 * it in coverage/TABLE.md, by default faults.md.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { Verdict } from '../history.ts';
import type { Report } from '../load.ts';

export interface Row {
  /** As in '3 N=1 socket': a number, by which rows are ordered, and a variant. */
  row: string;
  fault: string;
  load?: Omit<Report, 'history'>;
  kills?: number;
  restarts?: number;
  verdict?: Verdict;
  /** What else was measured. */
  seen?: string;
  times?: Time[];
}

/** Milliseconds that something took, and that it is meant to take at most. */
export interface Time {
  what: string;
  took: number;
  bar: number;
}

/** Another suite that has a table of its own says its name in TABLE, before its tests. */
const findDirectory = () => `coverage/${process.env.TABLE ?? 'faults'}`;
const columns = [
  '#',
  'fault under load',
  'sent',
  'ok',
  'refused',
  'failed',
  'kills',
  'restarts',
  'unacknowledged', // took effect without an answer that says so
  'findings', // of the judge: answers that were wrong
  'p50/p99/max ms',
  'seen',
];

/** Prints a row and keeps it for the table. To be called before what is expected of it. */
export function addRow(row: Row): void {
  const directory = findDirectory();
  mkdirSync(directory, { recursive: true });
  const line = render(row);
  writeFileSync(`${directory}/${row.row.replaceAll(' ', '-')}`, line);
  process.stdout.write(`${line}\n`);
  for (const finding of row.verdict?.wrong.slice(0, 10) ?? []) process.stdout.write(`  ${finding}\n`);
}

function render({ row, fault, load, kills, restarts, verdict, seen, times = [] }: Row): string {
  const failed = load && Object.entries(load.failed).map(([kind, count]) => `${count} × ${kind}`);
  return line([
    row,
    fault,
    load && format(load.sent),
    load && format(load.ok),
    load && format(load.refused),
    load && (failed?.join(', ') || '0'),
    kills,
    restarts,
    verdict && format(verdict.unacknowledged),
    verdict && format(verdict.wrong.length),
    load && [load.p50, load.p99, load.max].map((value) => value.toFixed(value < 10 ? 1 : 0)).join('/'),
    [...times.map(say), ...(seen ? [seen] : [])].join('; '),
  ]);
}

const say = ({ what, took, bar }: Time) =>
  `${what} ${format(Math.round(took))} ms (${took < bar ? 'bar' : 'MISSED the bar of'} ${format(bar)})`;
const line = (cells: unknown[]) => `| ${cells.map((cell) => cell ?? '').join(' | ')} |`;
const format = (count: number) => count.toLocaleString('en');

/** jest's globalTeardown. */
export default function printTable(): void {
  const directory = findDirectory();
  if (!existsSync(directory)) return;
  const rows = readdirSync(directory).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
  const lines = rows.map((row) => readFileSync(`${directory}/${row}`, 'utf8'));
  const table = [line(columns), line(columns.map(() => '---')), ...lines, ''].join('\n');
  rmSync(directory, { recursive: true });
  writeFileSync(`${directory}.md`, table);
  process.stdout.write(`\n${table}\nkept in ${directory}.md\n`);
}
