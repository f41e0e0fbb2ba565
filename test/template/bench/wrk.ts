import { execFile } from 'node:child_process';

export interface Round {
  visits: number;
  perSecond: number;
  /** Milliseconds. */
  p50: number;
  p99: number;
}

/** Visits with wrk, which costs little: on a small machine the load and what it measures share the cores. */
export async function visit(port: number, connections: number, seconds: number): Promise<Round> {
  const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--latency', `http://127.0.0.1:${port}/`];
  const text = await new Promise<string>((resolve, reject) => {
    execFile('wrk', args, (error, stdout) => (error ? reject(error) : resolve(stdout)));
  });
  if (/Non-2xx|Socket errors/.test(text)) throw new Error(`visits failed:\n${text}`);
  const [, visits, took, unit] = /(\d+) requests in ([\d.]+)(s|m),/.exec(text) ?? [];
  return {
    visits: Number(visits),
    perSecond: Number(visits) / (Number(took) * (unit === 'm' ? 60 : 1)),
    p50: milliseconds(/50%\s+([\d.]+)(us|ms|s)/.exec(text)),
    p99: milliseconds(/99%\s+([\d.]+)(us|ms|s)/.exec(text)),
  };
}

function milliseconds(match: RegExpExecArray | null): number {
  const [, value, unit] = match ?? [];
  return Number(value) * { us: 0.001, ms: 1, s: 1000 }[unit as 'us' | 'ms' | 's'];
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
