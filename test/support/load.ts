/** Requests on many connections while something happens to the service, and what became of each. */
import { Agent } from 'node:http';
import { expect } from '@jest/globals';
import type { Exchange, Verdict } from './history.ts';
import { judge, sample } from './judgement.ts';
import { atEnd } from './processes.ts';
import { type Address, request } from './requests.ts';
import { delay, waitFor } from './wait.ts';

export interface LoadReport {
  /** How many answers had which status. */
  statuses: Record<number, number>;
  /** Why requests got no answer. */
  errors: Error[];
  /** Every request that has ended, in the order of their ends. */
  history: Exchange[];
  /** The longest time that a request took, in milliseconds. */
  slowest: number;
}

export interface Load {
  /** What there is so far. */
  readonly report: LoadReport;
  /** Waits until so many requests more were answered by 200. */
  waitForAnswers(more: number): Promise<void>;
  /** Begins no more requests and lets those in flight finish. */
  stop(): Promise<LoadReport>;
}

/**
 * Sends the app's sample request on so many connections, until it is stopped. The pause between an answer and the next
 * request, 25 ms by default, leaves some of the machine to what is tested. `path`: asks for this one instead.
 */
export function startLoad(
  to: Address,
  connections: number,
  { keepAlive = true, pause = 25, path }: { keepAlive?: boolean; pause?: number; path?: string } = {},
): Load {
  const report: LoadReport = { statuses: {}, errors: [], history: [], slowest: 0 };
  const agent = new Agent({ keepAlive, maxSockets: connections });
  let running = true;
  const clients = Array.from({ length: connections }, async () => {
    while (running) {
      const exchange = await ask(to, report, { agent, path });
      if (exchange.error !== undefined) await delay(10);
      if (pause > 0) await delay(pause);
    }
  });
  const stop = async () => {
    running = false;
    await Promise.all(clients);
    agent.destroy();
    return report;
  };
  atEnd(stop);
  return {
    report,
    async waitForAnswers(more) {
      const answered = () => report.statuses[200] ?? 0;
      const enough = answered() + more;
      await waitFor(() => answered() >= enough, `${more} answers`);
    },
    stop,
  };
}

/** One request of the load; it is added to the report. */
async function ask(
  to: Address,
  report: LoadReport,
  { agent, path = sample.path }: { agent?: Agent; path?: string | undefined } = {},
): Promise<Exchange> {
  const exchange: Exchange = { begin: performance.now(), end: 0 };
  try {
    const options = { headers: sample.headers, ...(agent && { agent }) };
    const { status, body } = await request(to, path, options);
    Object.assign(exchange, { status, body });
    report.statuses[status] = (report.statuses[status] ?? 0) + 1;
  } catch (error) {
    exchange.error = (error as Error).message;
    report.errors.push(error as Error);
  }
  exchange.end = performance.now();
  report.history.push(exchange);
  report.slowest = Math.max(report.slowest, exchange.end - exchange.begin);
  return exchange;
}

/** Asks once more, after the load has ended, and has the app's own judge look at every answer. */
export async function judgeLoad(to: Address, report: LoadReport): Promise<Verdict> {
  const { error } = await ask(to, report);
  if (error !== undefined) throw new Error(`no answer after the load: ${error}`);
  return judge(report.history);
}

/** Stops a load and expects that every request was answered by 200, and rightly. */
export async function expectFlawless(to: Address, load: Load): Promise<void> {
  const report = await load.stop();
  const verdict = await judgeLoad(to, report);
  const { errors, statuses, history } = report;
  expect({ errors, statuses, ...verdict }).toEqual({
    errors: [],
    statuses: { 200: history.length },
    wrong: [],
    unacknowledged: 0,
  });
}
