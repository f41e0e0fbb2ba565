import { destination, type Logger, pino } from 'pino';

export type Log = Pick<Logger, LogLevel>;

export const logLevels = ['debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

/**
 * Logs to standard output: one line of JSON an event, or lines made for eyes where that is a terminal.
 * Writes are synchronous, so that the last line before an exit is never lost.
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
    const { default: pretty } = await import('pino-pretty'); // loaded only where there are eyes
    log = pino(options, pretty({ sync: true, ignore: 'pid', translateTime: 'SYS:HH:MM:ss' }));
  } else {
    log = pino(options, destination({ dest: 1, sync: true }));
  }
  return log;
}
