import { constants, fstatSync, openSync, writeSync } from 'node:fs';
import { type DestinationStream, pino } from 'pino';
import type { Log } from '../contract.ts';
import type { LogLevel } from './config.ts';

/** Lines that wait while the reader of the log stalls; further ones are dropped. */
export const maxWaiting = 1_000;
const retryInterval = 100; // milliseconds
const flushTimeout = 1_000; // milliseconds

/** Logs to standard output: one line of JSON for each event, or coloured text if that is a terminal. */
export async function createLog(level: LogLevel, name: string, terminal: boolean): Promise<Log> {
  const options = {
    level,
    base: { process: name, pid: process.pid },
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  let log: Log;
  if (terminal) {
    const { default: pretty } = await import('pino-pretty'); // loaded only where it is used
    log = pino(options, pretty({ sync: true, ignore: 'pid', translateTime: 'SYS:HH:MM:ss' }));
  } else {
    const onResume = (dropped: number) =>
      log.warn(`${dropped} lines of the log were dropped: its reader had stalled`);
    log = pino(options, createOutput(onResume));
  }
  return log;
}

/**
 * The descriptor of standard output. A pipe is opened once more: whether a write to it may block is then this process' own
 * business. What is inherited is shared, and each fork makes it blocking for all (libuv's uv_spawn).
 */
function openOutput(): number {
  try {
    if (fstatSync(1).isFIFO()) return openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_NONBLOCK);
  } catch {
    // Not Linux, or the pipe is another user's: a full pipe may block then.
  }
  return 1;
}

/**
 * Standard output, for lines. Each is written at once, so that the last one before an exit is not lost. But a reader that
 * stalls must not block the process: a full pipe fails with EAGAIN, and what is written then waits. `onResume` gets the
 * number of dropped lines.
 */
function createOutput(onResume: (dropped: number) => void): DestinationStream & { flushSync(): void } {
  const output = openOutput();
  const waiting: Buffer[] = [];
  let dropped = 0;
  let retry: NodeJS.Timeout | undefined;

  /** Returns whether no line waits any more. */
  function flush(): boolean {
    clearTimeout(retry);
    try {
      for (let [line] = waiting; line; [line] = waiting) {
        const written = writeSync(output, line);
        if (written < line.length) waiting[0] = line.subarray(written);
        else waiting.shift();
      }
    } catch {
      retry = setTimeout(flush, retryInterval).unref();
      return false;
    }
    const count = dropped;
    dropped = 0;
    if (count > 0) onResume(count);
    return true;
  }

  return {
    write(line) {
      if (waiting.length < maxWaiting) waiting.push(Buffer.from(line));
      else dropped += 1;
      flush();
    },
    /** pino calls it after a fatal error: the process is about to end. */
    flushSync() {
      const end = performance.now() + flushTimeout;
      const never = new Int32Array(new SharedArrayBuffer(4));
      while (!flush() && performance.now() < end) Atomics.wait(never, 0, 0, retryInterval);
    },
  };
}
