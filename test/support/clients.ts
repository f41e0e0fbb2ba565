/**
 * The clients of a load (load.ts), in a thread of their own: they neither starve the test that looks on nor are starved
 * by it. They use plain sockets, which cost a fifth of what node:http does: the machine's time is for the service.
 */
import { connect, type Socket } from 'node:net';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { Exchange } from './history.ts';
import type { Address } from './requests.ts';

export interface LoadOptions {
  to: Address;
  /** What is asked: a target and headers of a GET. */
  request: { path: string; headers: Record<string, string> };
  /** Clients that ask again when they are answered, after a pause of so many milliseconds; 0 by default. */
  busy: number;
  pause?: number;
  /** Whether they keep their connections; they do by default. */
  keepAlive?: boolean;
  /** Requests a second of all busy clients together; absent: as many as are answered. */
  rate?: number;
  /**
   * Clients that pause for 1 to 200 ms after each answer, as browsers do, so that their connections are idle at times;
   * every other one asks on a new connection.
   */
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

/** A history as it leaves the thread: hundreds of thousands of objects would take long to copy. */
export interface PackedHistory {
  begins: Float64Array;
  ends: Float64Array;
  /** 0: no answer. */
  statuses: Uint16Array;
  /** For each exchange, which of the texts is its body or its error. */
  texts: Uint32Array;
  distinctTexts: string[];
}

export type Message = { counts: Counts } | { report: Omit<Report, 'history'>; packed: PackedHistory };

/** Milliseconds of the one clock that all threads share. */
export function now(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

const patience = 15_000; // milliseconds after which a request without an answer is a failure
const pauseAfterFailure = 20; // milliseconds, lest a dead service is asked a thousand times at once
const longestPause = 200; // milliseconds of a client that pauses: shorter than any server keeps an idle connection

async function run(options: LoadOptions, parent: MessagePort): Promise<void> {
  const { busy, keepAlive = true, rate, pause = 0, pausing = 0 } = options;
  const tally = createTally();
  parent.on('message', (message) => {
    if (message === 'stop') tally.stopping = true;
    else parent.postMessage({ counts: tally.counts } satisfies Message);
  });
  const waitOf = (index: number) => {
    if (rate) return beat(tally, index, (busy * 1000) / rate, busy);
    return pause > 0 ? () => sleep(pause) : undefined;
  };
  const waitAtRandom = () => sleep(1 + Math.random() * (longestPause - 1));
  await Promise.all([
    ...Array.from({ length: busy }, (_, i) => runClient(options, tally, keepAlive, waitOf(i))),
    ...Array.from({ length: pausing }, (_, i) => runClient(options, tally, i % 2 === 0, waitAtRandom)),
  ]);
  const packed = tally.record.pack();
  const { begins, ends, statuses, texts } = packed;
  const transferred = [begins.buffer, ends.buffer, statuses.buffer, texts.buffer] as ArrayBuffer[];
  parent.postMessage({ report: reportOf(tally), packed } satisfies Message, transferred);
  parent.close();
}

/** What all clients of a load share. */
interface Tally {
  counts: Counts;
  record: ReturnType<typeof createRecord>;
  latencies: number[];
  longest: number;
  begin: number;
  stopping: boolean;
}

const createTally = (): Tally => ({
  counts: { sent: 0, ok: 0, refused: 0, failed: {} },
  record: createRecord(),
  latencies: [],
  longest: 0,
  begin: now(),
  stopping: false,
});

function reportOf({ counts, latencies, longest, begin }: Tally): Omit<Report, 'history'> {
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

/** Waits until it is the turn of this one of the clients; they begin one after the other, not all at the same instant. */
function beat(tally: Tally, index: number, interval: number, clients: number): () => Promise<void> {
  let next = tally.begin + (index * interval) / clients;
  return async () => {
    while (!tally.stopping && next - now() > 1) await sleep(Math.min(next - now(), 100));
    next += interval;
  };
}

/** Asks, one request after the other, until the load is stopped. */
async function runClient(
  { to, request, requests = Number.POSITIVE_INFINITY, comeAgain = false }: LoadOptions,
  tally: Tally,
  keeps: boolean,
  wait?: () => Promise<void>,
): Promise<void> {
  const { counts, record, latencies } = tally;
  const bytes = render(request, keeps);
  let connection: Connection | undefined;
  const ask = async () => {
    // One that was closed while it was idle is not used again, as with any client.
    if (!connection?.isOpen()) connection = openConnection(to);
    const begin = now();
    const answer = await connection.ask(bytes);
    record.add(begin, now(), answer);
    return answer;
  };
  for (;;) {
    if (wait) await wait();
    if (tally.stopping || counts.sent >= requests) break;
    counts.sent += 1;
    const begin = now();
    let answer = await ask();
    while (isRefusal(answer)) {
      counts.refused += 1;
      if (!comeAgain) break;
      await sleep(answer.retryAfter * 1000);
      answer = await ask();
    }
    const time = now() - begin;
    tally.longest = Math.max(tally.longest, time);
    if (answer.status === 200) counts.ok += 1;
    if (answer.status === 200 || isRefusal(answer)) {
      latencies.push(time);
    } else {
      const kind = answer.error ?? String(answer.status);
      counts.failed[kind] = (counts.failed[kind] ?? 0) + 1;
      await sleep(pauseAfterFailure);
    }
  }
  connection?.close();
}

const isRefusal = ({ status, retryAfter }: Answer) => status === 503 && retryAfter > 0;

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

const sleep = (milliseconds: number) => new Promise<void>((resume) => setTimeout(resume, milliseconds));

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

if (parentPort) run(workerData, parentPort);
