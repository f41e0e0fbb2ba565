/**
 * Load: clients that ask and keep account of what they got. Busy ones ask again as soon as they are answered; others
 * pause, as browsers and load balancers do, so that their connections are idle at times. It runs in a thread of its
 * own, so that it neither starves the test that looks on nor is starved by it, and on plain sockets, which costs a
 * fifth of what node:http does: the machine's time is for the service.
 */
import { connect, type Socket } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { transformFileSync } from '@swc/core';
import type { Exchange } from '../history.ts';
import type { Address } from '../requests.ts';

export interface LoadOptions {
  to: Address;
  /** What is asked: a target and headers of a GET. */
  request: { path: string; headers: Record<string, string> };
  /** Clients that do not pause; 50 by default. */
  busy?: number;
  /** Whether they keep their connections; they do by default. */
  keepAlive?: boolean;
  /** Requests a second of all busy clients together; absent: as many as are answered. */
  rate?: number;
  /** Clients that pause for 1 to 200 ms after each answer, every other one on a new connection; 40 by default. */
  pausing?: number;
  /** Stop by itself after so many requests. */
  requests?: number;
  /** After a 503 with Retry-After: ask again after that time, as the answer says. */
  comeAgain?: boolean;
}

/** What there is so far. */
export interface Counts {
  /** Requests begun, and those among them that were answered with 200. */
  sent: number;
  ok: number;
  /** Answers 503 with Retry-After: the client knows that nothing was done. */
  refused: number;
  /** Requests that ended in any other way, by kind: the status, or the error. */
  failed: Record<string, number>;
}

export interface Report extends Counts {
  /** Milliseconds from the start of a request to its answer, or to its refusal where it does not come again. */
  p50: number;
  p99: number;
  /** The same for the longest request of all, be it that it failed. */
  max: number;
  seconds: number;
  /** Every request that was sent, in the order of their ends. */
  history: Exchange[];
}

export interface Load {
  look(): Promise<Counts>;
  /** Sends no more requests, and reports when the last one has ended. */
  stop(): Promise<Report>;
  /** Resolves when the load has ended: by stop(), or by its number of requests. */
  ended: Promise<Report>;
  /** Ends it at once, without a report. */
  terminate(): unknown;
}

/** A history as it leaves the load's thread: hundreds of thousands of objects would take long to copy. */
interface PackedHistory {
  begins: Float64Array;
  ends: Float64Array;
  /** 0: no answer. */
  statuses: Uint16Array;
  /** For each exchange, which of the texts is its body or its error. */
  texts: Uint32Array;
  distinctTexts: string[];
}

type Message = { counts: Counts } | { report: Omit<Report, 'history'>; packed: PackedHistory };

export function countFailed({ failed }: Counts): number {
  return Object.values(failed).reduce((sum, count) => sum + count, 0);
}

/** Milliseconds of the one clock that all threads share. */
export function now(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

/** Starts clients; they must be stopped. */
export function startLoad(options: LoadOptions): Load {
  // Node.js 20 runs no TypeScript.
  const { code } = transformFileSync(__filename, {
    jsc: { target: 'es2023', parser: { syntax: 'typescript' } },
    module: { type: 'commonjs' },
  });
  const worker = new Worker(code, { eval: true, workerData: options });
  const looks: ((counts: Counts) => void)[] = [];
  const ended = new Promise<Report>((resolve, reject) => {
    worker.on('message', (message: Message) => {
      if ('counts' in message) looks.shift()?.(message.counts);
      else resolve({ ...message.report, history: unpack(message.packed) });
    });
    worker.on('error', reject);
  });
  return {
    look: () =>
      Promise.race([
        ended,
        new Promise<Counts>((resolve) => {
          looks.push(resolve);
          worker.postMessage('look');
        }),
      ]),
    stop() {
      worker.postMessage('stop');
      return ended;
    },
    ended,
    terminate: () => worker.terminate(),
  };
}

function unpack({ begins, ends, statuses, texts, distinctTexts }: PackedHistory): Exchange[] {
  return Array.from(begins, (begin, i) => {
    const end = ends[i] as number;
    const text = distinctTexts[texts[i] as number] as string;
    return statuses[i] === 0
      ? { begin, end, error: text }
      : { begin, end, status: statuses[i] as number, body: text };
  });
}

const patience = 15_000; // milliseconds after which a request without an answer is a failure
const pauseAfterFailure = 20; // milliseconds, lest a dead service is asked a thousand times at once
const longestPause = 200; // milliseconds of a client that pauses: shorter than any server keeps an idle connection

if (!isMainThread && parentPort) run(workerData, parentPort);

function run(options: LoadOptions, parent: NonNullable<typeof parentPort>): void {
  const {
    to,
    busy = 50,
    keepAlive = true,
    rate,
    pausing = 40,
    requests = Number.POSITIVE_INFINITY,
  } = options;
  const counts: Counts = { sent: 0, ok: 0, refused: 0, failed: {} };
  const record = createRecord();
  const latencies: number[] = [];
  let longest = 0;
  const begin = now();
  let stopping = false;

  parent.on('message', (message) => {
    if (message === 'stop') stopping = true;
    else parent.postMessage({ counts } satisfies Message);
  });
  Promise.all([
    // Clients with a rate begin one after the other, not all at the same instant.
    ...Array.from({ length: busy }, (_, i) => client(keepAlive, rate ? beat(i) : undefined)),
    ...Array.from({ length: pausing }, (_, i) =>
      client(i % 2 === 0, () => sleep(1 + Math.random() * (longestPause - 1))),
    ),
  ]).then(() => {
    const packed = record.pack();
    const { begins, ends, statuses, texts } = packed;
    parent.postMessage({ report: report(), packed } satisfies Message, [
      begins.buffer,
      ends.buffer,
      statuses.buffer,
      texts.buffer,
    ] as ArrayBuffer[]);
    parent.close();
  });

  function report(): Omit<Report, 'history'> {
    const sorted = Float64Array.from(latencies).sort();
    const quantile = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? 0;
    return {
      ...counts,
      p50: quantile(0.5),
      p99: quantile(0.99),
      max: longest,
      seconds: (now() - begin) / 1000,
    };
  }

  /** Waits until it is the turn of this one of the busy clients. */
  function beat(index: number): () => Promise<void> {
    const interval = (busy * 1000) / (rate as number);
    let next = begin + (index * interval) / busy;
    return async () => {
      while (!stopping && next - now() > 1) await sleep(Math.min(next - now(), 100));
      next += interval;
    };
  }

  async function client(keeps: boolean, wait?: () => Promise<void>): Promise<void> {
    const bytes = render(options.request, keeps);
    let connection: Connection | undefined;
    for (;;) {
      if (wait) await wait();
      if (stopping || counts.sent >= requests) break;
      counts.sent += 1;
      const start = now();
      for (;;) {
        // One that was closed while it was idle is not used again, as with any client.
        if (!connection?.isOpen()) connection = openConnection(to);
        const asked = now();
        const answer = await connection.ask(bytes);
        const answered = now();
        record.add(asked, answered, answer);
        if (answer.status === 200) {
          counts.ok += 1;
          latencies.push(answered - start);
          break;
        }
        if (answer.status === 503 && answer.retryAfter > 0) {
          counts.refused += 1;
          if (!options.comeAgain) {
            latencies.push(answered - start);
            break;
          }
          await sleep(answer.retryAfter * 1000);
          continue;
        }
        const kind = answer.error ?? String(answer.status);
        counts.failed[kind] = (counts.failed[kind] ?? 0) + 1;
        await sleep(pauseAfterFailure);
        break;
      }
      longest = Math.max(longest, now() - start);
    }
    connection?.close();
  }
}

function render({ path, headers }: LoadOptions['request'], keepAlive: boolean): string {
  const fields = Object.entries({
    Host: 'localhost',
    ...headers,
    ...(!keepAlive && { Connection: 'close' }),
  });
  return `GET ${path} HTTP/1.1\r\n${fields.map((field) => `${field.join(': ')}\r\n`).join('')}\r\n`;
}

function createRecord(): {
  add(begin: number, end: number, answer: Answer): void;
  pack(): PackedHistory;
} {
  const begins: number[] = [];
  const ends: number[] = [];
  const statuses: number[] = [];
  const texts: number[] = [];
  const distinct = new Map<string, number>();
  return {
    add(begin, end, { status, error, body }) {
      const text = error ?? body;
      let index = distinct.get(text);
      if (index === undefined) {
        index = distinct.size;
        distinct.set(text, index);
      }
      begins.push(begin);
      ends.push(end);
      statuses.push(error === undefined ? status : 0);
      texts.push(index);
    },
    pack: () => ({
      begins: Float64Array.from(begins),
      ends: Float64Array.from(ends),
      statuses: Uint16Array.from(statuses),
      texts: Uint32Array.from(texts),
      distinctTexts: [...distinct.keys()],
    }),
  };
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

interface Answer {
  /** Why there is no answer. */
  error?: string;
  status: number;
  body: string;
  retryAfter: number;
  keepAlive: boolean;
}

interface Connection {
  ask(request: string): Promise<Answer>;
  isOpen(): boolean;
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

  function failure(error: string): Answer {
    return { error, status: 0, body: '', retryAfter: 0, keepAlive: false };
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
        timer = setTimeout(() => end(failure('no answer')), patience);
        socket.write(request);
      }),
    isOpen: () => !socket.destroyed && !socket.readableEnded,
    close: () => socket.destroy(),
  };
}

/** Absent until the answer is whole. An answer to what a load asks has a length. */
function parse(text: string): Answer | undefined {
  const head = text.indexOf('\r\n\r\n');
  if (head < 0) return undefined;
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1]);
  if (text.length < head + 4 + length) return undefined;
  const field = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0);
  return {
    ...(Number.isNaN(length) && { error: 'no length' }),
    status: field(/^HTTP\/1\.1 (\d{3}) /),
    body: Buffer.from(text.slice(head + 4), 'latin1').toString(),
    retryAfter: field(/\r\nretry-after: (\d+)/i),
    keepAlive: !Number.isNaN(length) && !/\r\nconnection: close/i.test(text.slice(0, head + 2)),
  };
}
