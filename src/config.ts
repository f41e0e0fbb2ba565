import { availableParallelism } from 'node:os';
import { type LogLevel, logLevels } from './log.ts';

/** Where to listen: the path of a unix socket, or a TCP port, on every address or on one. */
export type Listen = { path: string } | { port: number; host?: string };

export interface Config {
  listen: Listen;
  /** Number of worker processes. */
  workers: number;
  /** Milliseconds without a heartbeat after which a worker is killed; 0: never. */
  workerTimeout: number;
  /** Milliseconds in which a stopping worker may finish what it has begun. */
  gracefulTimeout: number;
  /** Requests after which a worker is replaced, and the random part that is added to it; 0: never. */
  maxRequests: number;
  maxRequestsJitter: number;
  /** Absent: the count lives in the primary process. */
  redisUrl?: string;
  logLevel: LogLevel;
  /** Replace the workers when a compiled file changes. */
  reload: boolean;
}

/** A value that cannot be used. The message says what would be right. */
class Invalid extends Error {}

/** What the service cannot run with; the message has one line for each variable that is wrong. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  constructor(mistakes: string[], options?: ErrorOptions) {
    super(`bad configuration\n  ${mistakes.join('\n  ')}`, options);
  }
}

interface Setting<T> {
  name: string;
  /** As it would be written in the environment; undefined: see `meaning`. */
  default: string | undefined;
  meaning: string;
  parse(text: string): T;
}

// A path in sockaddr_un is 107 bytes at most (unix(7)); a temporary name has seven more (socket.ts).
const longestPath = 100;

function parseListen(text: string): Listen {
  if (text.includes('/')) {
    if (Buffer.byteLength(text) > longestPath) throw new Invalid(`a path of at most ${longestPath} bytes`);
    return { path: text };
  }
  const [, bracketed, plain, digits] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port < 1 || port > 65535) {
    throw new Invalid('a port (8080), host:port (127.0.0.1:8080, [::1]:8080), or the path of a unix socket');
  }
  const host = bracketed ?? plain;
  return host === undefined ? { port } : { port, host };
}

function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new Invalid(`a whole number from ${least} to ${most}`);
    }
    return value;
  };
}

function seconds(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+(\.\d+)?$/.test(text) || value < least || value > 3600) {
      throw new Invalid(`seconds, from ${least} to 3600`);
    }
    return value * 1000;
  };
}

function oneOf<T extends string>(values: readonly T[]): (text: string) => T {
  return (text) => {
    const value = values.find((candidate) => candidate === text);
    if (value === undefined) throw new Invalid(`one of ${values.join(', ')}`);
    return value;
  };
}

function parseRedisUrl(text: string): string {
  if (!URL.canParse(text) || !/^rediss?:\/\/[^/]/.test(text)) {
    throw new Invalid('redis://[[user]:password@]host[:port][/database], or rediss:// for TLS');
  }
  const { pathname } = new URL(text);
  if (!/^(\/\d*)?$/.test(pathname)) throw new Invalid('a number as its database: redis://host/0');
  return text;
}

/** Every setting there is. The README's table is held against this one by a test. */
export const settings = {
  listen: {
    name: 'LISTEN',
    default: '8080',
    meaning: 'port, `host:port`, or the path of a unix socket',
    parse: parseListen,
  },
  workers: {
    name: 'WEB_CONCURRENCY',
    default: undefined,
    meaning: 'workers; by default one per available core',
    parse: integer(1, 512),
  },
  workerTimeout: {
    name: 'WORKER_TIMEOUT',
    default: '30',
    meaning: 'seconds without a heartbeat after which a worker is killed and replaced; 0: never',
    parse: seconds(0),
  },
  gracefulTimeout: {
    name: 'GRACEFUL_TIMEOUT',
    default: '20',
    meaning: 'seconds that a stopping worker has for what it has begun; then it is killed',
    parse: seconds(0.1),
  },
  maxRequests: {
    name: 'MAX_REQUESTS',
    default: '0',
    meaning: 'requests after which a worker is replaced, successor first; 0: never',
    parse: integer(0, 1e9),
  },
  maxRequestsJitter: {
    name: 'MAX_REQUESTS_JITTER',
    default: '0',
    meaning: 'up to so many requests more, at random, so that workers do not leave together',
    parse: integer(0, 1e9),
  },
  redisUrl: {
    name: 'REDIS_URL',
    default: undefined,
    meaning: 'where the count is kept; by default in the primary process, lost when it ends',
    parse: parseRedisUrl,
  },
  logLevel: {
    name: 'LOG_LEVEL',
    default: 'info',
    meaning: `least severe level that is logged: ${logLevels.join(', ')}`,
    parse: oneOf(logLevels),
  },
  reload: {
    name: 'RELOAD',
    default: 'false',
    meaning: '`true`: replace the workers whenever a compiled file changes (`npm run dev`)',
    parse: (text) => oneOf(['true', 'false'])(text) === 'true',
  },
} satisfies { [K in keyof Config]-?: Setting<Config[K]> };

/**
 * Reads the configuration from environment variables; an empty one counts as absent.
 *
 * @throws {ConfigError} naming every variable that is wrong, what it had and what is right.
 */
export function readConfig(environment: Record<string, string | undefined>): Config {
  const mistakes: string[] = [];
  function read<T>(setting: Setting<T>): T | undefined {
    const text = environment[setting.name] || setting.default;
    if (text === undefined) return undefined;
    try {
      return setting.parse(text);
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      mistakes.push(`${setting.name} is ${JSON.stringify(text)}; right would be ${error.message}`);
      return undefined;
    }
  }
  const config = Object.fromEntries(
    Object.entries(settings)
      .map(([key, setting]) => [key, read<unknown>(setting)])
      .filter(([, value]) => value !== undefined),
  );
  if (mistakes.length > 0) throw new ConfigError(mistakes);
  return { workers: availableParallelism(), ...config } as Config;
}
