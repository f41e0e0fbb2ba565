/**
 * Load: clients that visit as fast as they are answered, and keep account. It runs in a thread of its own, so that
 * it neither starves the test that looks on nor is starved by it, and on plain sockets, which costs a fifth of what
 * node:http does: the machine's time is for the service.
 */
import { connect, type Socket } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { transformFileSync } from '@swc/core';
import type { Address } from '../processes.ts';

export interface LoadOptions {
  to: Address;
  clients?: number;
  keepAlive?: boolean;
  /** Visits a second of all clients together; absent: as many as are answered. */
  rate?: number;
  /** Stop by itself after so many visits. */
  visits?: number;
  /** After a 503 with Retry-After: come again after that time, as the answer asks for, with the same visit. */
  comeAgain?: boolean;
}

export interface Report {
  /** Visits begun, and those among them that got a number. */
  sent: number;
  ok: number;
  /** Answers 503 with Retry-After: nothing was counted and the client knows it. */
  refused: number;
  /** Visits that ended in any other way, by kind. */
  failed: Record<string, number>;
  /** Requests sent again because an idle connection was closed under them (RFC 9112, 9.3.1). */
  resent: number;
  /** Milliseconds from the first request of a visit to its number, or to its refusal where it does not come again. */
  p50: number;
  p99: number;
  /** The same for the longest visit of all, be it that it failed. */
  max: number;
  seconds: number;
  /** The numbers that were answered. */
  numbers: number[];
}

export interface Load {
  /** What there is so far. */
  look(): Promise<Report>;
  /** Begins no more visits, and reports when the last one has ended. */
  stop(): Promise<Report>;
  /** Resolves when the load has ended: by stop(), or by its number of visits. */
  ended: Promise<Report>;
}

/** How many numbers were answered more than once. */
export function countDoubled(numbers: number[]): number {
  return numbers.length - new Set(numbers).size;
}

export function countFailed(report: Report): number {
  return Object.values(report.failed).reduce((sum, count) => sum + count, 0);
}

/** Starts clients; they must be stopped. */
export function startLoad(options: LoadOptions): Load {
  // Node.js 20 runs no TypeScript.
  const { code } = transformFileSync(__filename, {
    jsc: { target: 'es2023', parser: { syntax: 'typescript' } },
    module: { type: 'commonjs' },
  });
  const worker = new Worker(code, { eval: true, workerData: options });
  const looks: ((report: Report) => void)[] = [];
  const ended = new Promise<Report>((resolve, reject) => {
    worker.on('message', ({ end, report }: { end: boolean; report: Report }) => {
      if (end) resolve(report);
      else looks.shift()?.(report);
    });
    worker.on('error', reject);
  });
  return {
    look: () =>
      Promise.race([
        ended,
        new Promise<Report>((resolve) => {
          looks.push(resolve);
          worker.postMessage('look');
        }),
      ]),
    stop() {
      worker.postMessage('stop');
      return ended;
    },
    ended,
  };
}

const patience = 15_000; // milliseconds after which a request without an answer is a failure
const breath = 20; // milliseconds after a failure, lest a dead service is asked a thousand times at once

if (!isMainThread && parentPort) run(workerData, parentPort);

function run(options: LoadOptions, parent: NonNullable<typeof parentPort>): void {
  const { to, clients = 50, keepAlive = true, rate, visits = Number.POSITIVE_INFINITY } = options;
  const request =
    'GET / HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n' +
    `${keepAlive ? '' : 'Connection: close\r\n'}\r\n`;
  const account = { sent: 0, ok: 0, refused: 0, failed: {} as Record<string, number>, resent: 0 };
  const numbers: number[] = [];
  const latencies: number[] = [];
  let longest = 0;
  const begin = performance.now();
  let stopping = false;

  parent.on('message', (message) => {
    if (message === 'stop') stopping = true;
    else parent.postMessage({ end: false, report: report() });
  });
  Promise.all(Array.from({ length: clients }, (_, i) => client(i))).then(() => {
    parent.postMessage({ end: true, report: report() });
    parent.close();
  });

  function report(): Report {
    const sorted = Float64Array.from(latencies).sort();
    const quantile = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
    return {
      ...account,
      p50: quantile(0.5),
      p99: quantile(0.99),
      max: longest,
      seconds: (performance.now() - begin) / 1000,
      numbers,
    };
  }

  async function client(index: number): Promise<void> {
    let connection: Connection | undefined;
    // Clients with a rate begin one after the other, not all at the same instant.
    let next = begin + (rate ? (index * 1000) / rate : 0);
    while (!stopping && account.sent < visits) {
      if (rate) {
        const wait = next - performance.now();
        if (wait > 1) {
          await sleep(Math.min(wait, 100));
          if (wait > 100) continue;
        }
        next += (clients * 1000) / rate;
      }
      account.sent += 1;
      const start = performance.now();
      for (;;) {
        const reused = connection !== undefined;
        connection ??= openConnection(to);
        const answer = await connection.ask(request);
        if (!answer.keepAlive) connection = undefined;
        if (answer.status === 200 && answer.hits > 0) {
          account.ok += 1;
          numbers.push(answer.hits);
          latencies.push(performance.now() - start);
          break;
        }
        if (answer.failure && answer.silent && reused) {
          account.resent += 1;
          continue;
        }
        if (answer.status === 503 && answer.retryAfter > 0) {
          account.refused += 1;
          if (!options.comeAgain) {
            latencies.push(performance.now() - start);
            break;
          }
          await sleep(answer.retryAfter * 1000);
          continue;
        }
        const kind = answer.failure ?? String(answer.status);
        account.failed[kind] = (account.failed[kind] ?? 0) + 1;
        await sleep(breath);
        break;
      }
      longest = Math.max(longest, performance.now() - start);
    }
    connection?.close();
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

interface Answer {
  /** Why there is no answer; `silent`: not one byte of it came. */
  failure?: string;
  silent: boolean;
  status: number;
  hits: number;
  retryAfter: number;
  keepAlive: boolean;
}

interface Connection {
  ask(request: string): Promise<Answer>;
  close(): void;
}

function openConnection(to: Address): Connection {
  let text = '';
  let settle: ((answer: Answer) => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  let reason = 'closed';
  const socket: Socket = connect('port' in to ? to : { path: to.socketPath });
  socket.setNoDelay(true);
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
    const answer = parse(text);
    if (answer) end(answer);
  });
  socket.on('error', (error: NodeJS.ErrnoException) => {
    reason = error.code ?? error.message;
  });
  socket.on('close', () => end(failure(reason)));

  function failure(kind: string): Answer {
    return { failure: kind, silent: text === '', status: 0, hits: 0, retryAfter: 0, keepAlive: false };
  }

  function end(answer: Answer): void {
    clearTimeout(timer);
    if (!answer.keepAlive) socket.destroy();
    settle?.(answer);
    settle = undefined;
  }

  return {
    ask: (request) =>
      new Promise((resolve) => {
        text = '';
        settle = resolve;
        if (socket.destroyed) {
          end(failure(reason));
          return;
        }
        timer = setTimeout(() => end(failure('no answer')), patience);
        socket.write(request);
      }),
    close: () => socket.destroy(),
  };
}

/** Absent until the answer is whole. Every answer to a visit that asks for JSON has a length. */
function parse(text: string): Answer | undefined {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return undefined;
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1]);
  if (text.length < head + 4 + length) return undefined;
  const field = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0);
  return {
    ...(Number.isNaN(length) && { failure: 'no length' }),
    silent: false,
    status: field(/^HTTP\/1\.1 (\d{3}) /),
    hits: field(/\{"hits":(\d+)\}$/),
    retryAfter: field(/\r\nretry-after: (\d+)/i),
    keepAlive: !Number.isNaN(length) && !/\r\nconnection: close/i.test(text.slice(0, head + 2)),
  };
}
