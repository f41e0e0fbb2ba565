/** Requests on many connections while something happens to the service, and what became of each. */
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { expect } from '@jest/globals';
import { transformFileSync } from '@swc/core';
import {
  type Counts,
  type LoadOptions,
  type Message,
  now,
  type PackedHistory,
  type Report,
} from './clients.ts';
import type { Exchange, Verdict } from './history.ts';
import { judge, sample } from './judgement.ts';
import { atEnd } from './processes.ts';
import { type Address, type Answer, request } from './requests.ts';
import { waitFor } from './wait.ts';

export { type LoadOptions, now, type Report };

export interface Load {
  look(): Promise<Counts>;
  /** Waits until so many requests more were answered by 200. */
  waitForAnswers(more: number): Promise<void>;
  /** Sends no more requests, and reports when the last one has ended. */
  stop(): Promise<Report>;
  /** Resolves when the load has ended: by stop(), or by its number of requests. */
  ended: Promise<Report>;
}

/** Starts clients that send the app's sample request, or another one. stopAll() ends them without a report. */
export function startLoad({ to, ...options }: Omit<LoadOptions, 'request'> & Partial<LoadOptions>): Load {
  // Node.js 20 runs no TypeScript.
  const { code } = transformFileSync(join(__dirname, 'clients.ts'), {
    jsc: { target: 'es2023', parser: { syntax: 'typescript' } },
    module: { type: 'commonjs' },
  });
  const worker = new Worker(code, { eval: true, workerData: { to: plain(to), request: sample, ...options } });
  atEnd(() => worker.terminate());
  const looks: ((counts: Counts) => void)[] = [];
  const ended = new Promise<Report>((resolve, reject) => {
    worker.on('message', (message: Message) => {
      if ('counts' in message) looks.shift()?.(message.counts);
      else resolve({ ...message.report, history: unpack(message.packed) });
    });
    worker.on('error', reject);
  });
  const look = () => {
    const seen = new Promise<Counts>((resolve) => looks.push(resolve));
    worker.postMessage('look');
    return Promise.race([ended, seen]);
  };
  return {
    look,
    async waitForAnswers(more) {
      const enough = (await look()).ok + more;
      await waitFor(async () => (await look()).ok >= enough, `${more} answers`);
    },
    stop() {
      worker.postMessage('stop');
      return ended;
    },
    ended,
  };
}

/** The address alone of what may have methods, too: they cannot be handed to a thread. */
const plain = (to: Address): Address =>
  'port' in to ? { port: to.port, ...(to.host && { host: to.host }) } : { socketPath: to.socketPath };

/** A load that leaves some of the machine to what is tested. */
export const startLightLoad = (to: Address, busy: number, options: Partial<LoadOptions> = {}): Load =>
  startLoad({ to, busy, pause: 25, ...options });

function unpack({ begins, ends, statuses, texts, distinctTexts }: PackedHistory): Exchange[] {
  return Array.from(begins, (begin, i) => {
    const end = ends[i] as number;
    const text = distinctTexts[texts[i] as number] as string;
    return statuses[i] === 0
      ? { begin, end, error: text }
      : { begin, end, status: statuses[i] as number, body: text };
  });
}

export function countFailed({ failed }: Counts): number {
  return Object.values(failed).reduce((sum, count) => sum + count, 0);
}

/** One request as the load sends them, which is added to a history. Rejects if the answer is not 200. */
export async function ask(
  to: Address,
  history: Exchange[] = [],
  headers: Record<string, string> = sample.headers,
): Promise<Answer> {
  const begin = now();
  const add = (outcome: Partial<Exchange>) => history.push({ begin, end: now(), ...outcome });
  const answer = await request(to, sample.path, { headers }).catch((error: Error) => {
    add({ error: error.message });
    throw error;
  });
  const { status, body } = answer;
  add({ status, body });
  if (status !== 200) throw new Error(`${status}: ${body}`);
  return answer;
}

/** Asks once more, after the load has ended, and has the app's own judge look at every answer. */
export async function judgeLoad(to: Address, history: Exchange[]): Promise<Verdict> {
  await ask(to, history);
  return judge(history);
}

/** Every request was answered with 200, and rightly. */
export function expectExact({ sent, ok, refused, failed }: Report, verdict: Verdict): void {
  expect({ ok, refused, failed, ...verdict }).toEqual({
    ok: sent,
    refused: 0,
    failed: {},
    wrong: [],
    unacknowledged: 0,
  });
}

/** Stops a load and expects that every request was answered by 200, and rightly; resolves to how many were sent. */
export async function expectFlawless(to: Address, load: Load): Promise<number> {
  const report = await load.stop();
  expectExact(report, await judgeLoad(to, report.history));
  return report.history.length;
}
