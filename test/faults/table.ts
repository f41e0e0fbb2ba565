/**
 * The table of the fault battery: each test adds its row, and at the end jest prints the whole (its globalTeardown)
 * and leaves it in coverage/faults.md.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { countDoubled, countFailed, type Report } from './load.ts';

export interface Row {
  /** As in '3 N=1 socket': a number, by which rows are ordered, and a variant. */
  row: string;
  fault: string;
  load?: Report;
  kills?: number;
  restarts?: number;
  /** Visits counted but not acknowledged; 0: exact. */
  difference?: number;
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

const directory = 'coverage/faults';
const columns = [
  '#',
  'fault under load',
  'sent',
  'ok',
  'refused',
  'failed',
  'kills',
  'restarts',
  'counter − acknowledged',
  'doubled',
  'p50 / p99 / max ms',
  'seen',
];

/** Prints a row and keeps it for the table. To be called before what is expected of it. */
export function addRow(row: Row): void {
  mkdirSync(directory, { recursive: true });
  const line = render(row);
  writeFileSync(`${directory}/${row.row.replaceAll(' ', '-')}`, line);
  process.stdout.write(`${line}\n`);
}

function render({ row, fault, load, kills, restarts, difference, seen, times = [] }: Row): string {
  const failed = load && Object.entries(load.failed).map(([kind, count]) => `${count} × ${kind}`);
  return line([
    row,
    fault,
    load && format(load.sent),
    load && format(load.ok),
    load && format(load.refused),
    load && (countFailed(load) === 0 ? '0' : failed?.join(', ')),
    kills,
    restarts,
    difference,
    load && countDoubled(load.numbers),
    load && [load.p50, load.p99, load.max].map((value) => value.toFixed(value < 10 ? 1 : 0)).join(' / '),
    [...times.map(say), ...(seen ? [seen] : [])].join('; '),
  ]);
}

const say = ({ what, took, bar }: Time) =>
  `${what} ${format(Math.round(took))} ms (${took < bar ? 'bar' : 'MISSED the bar of'} ${format(bar)})`;
const line = (cells: unknown[]) => `| ${cells.map((cell) => cell ?? '').join(' | ')} |`;
const format = (count: number) => count.toLocaleString('en');

/** Several loads of one row as one. */
export function addUp(reports: Report[]): Report {
  const failed: Record<string, number> = {};
  for (const report of reports) {
    for (const [kind, count] of Object.entries(report.failed)) failed[kind] = (failed[kind] ?? 0) + count;
  }
  const sum = (pick: (report: Report) => number) =>
    reports.reduce((total, report) => total + pick(report), 0);
  const most = (pick: (report: Report) => number) => Math.max(...reports.map(pick));
  return {
    sent: sum(({ sent }) => sent),
    ok: sum(({ ok }) => ok),
    refused: sum(({ refused }) => refused),
    failed,
    resent: sum(({ resent }) => resent),
    p50: most(({ p50 }) => p50),
    p99: most(({ p99 }) => p99),
    max: most(({ max }) => max),
    seconds: sum(({ seconds }) => seconds),
    numbers: reports.flatMap(({ numbers }) => numbers),
  };
}

/** jest's globalTeardown. */
export default function printTable(): void {
  if (!existsSync(directory)) return;
  const rows = readdirSync(directory).sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
  const lines = rows.map((row) => readFileSync(`${directory}/${row}`, 'utf8'));
  const table = [line(columns), line(columns.map(() => '---')), ...lines, ''].join('\n');
  rmSync(directory, { recursive: true });
  writeFileSync('coverage/faults.md', table);
  process.stdout.write(`\n${table}\nkept in coverage/faults.md\n`);
}
