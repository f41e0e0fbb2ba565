import { destination, pino } from 'pino';
import type { Log } from '../contract.ts';
import type { LogLevel } from './config.ts';

/**
 * Logs to standard output: one line of JSON for each event, or coloured text if that is a terminal. Writes are
 * synchronous, so that the last line before an exit is never lost.
 */
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
    log = pino(options, destination({ dest: 1, sync: true }));
  }
  return log;
}
