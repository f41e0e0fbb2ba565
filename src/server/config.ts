import { existsSync } from 'node:fs';
import { BlockList, isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { appSettings } from '../app/settings.ts';
import type { Setting, Values } from '../contract.ts';
import { ConfigError, integer, oneOf, readSettings, seconds } from './env.ts';

/** Where to listen: the path of a unix socket, or a TCP port, on every address or on one. */
export type Listen = { path: string } | { port: number; host?: string };

export const logLevels = ['debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof logLevels)[number];

// A path in sockaddr_un is 107 bytes at most (unix(7)); a temporary name has seven more (socket.ts).
const maxPathLength = 100;

function parseListen(text: string): Listen {
  if (text.includes('/')) {
    if (Buffer.byteLength(text) > maxPathLength) throw new Error(`a path of at most ${maxPathLength} bytes`);
    return { path: text };
  }
  const [, bracketed, plain, digits] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port < 1 || port > 65535) {
    throw new Error('a port (8080), host:port (127.0.0.1:8080, [::1]:8080), or the path of a unix socket');
  }
  const host = bracketed ?? plain;
  return host === undefined ? { port } : { port, host };
}

function parseProxies(text: string): BlockList {
  const list = new BlockList();
  try {
    for (const entry of text.split(',')) {
      const [, address = '', bits] = /^\s*([^/\s]+)(?:\/(\d+))?\s*$/.exec(entry) ?? [];
      const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
      if (bits === undefined) list.addAddress(address, family);
      else list.addSubnet(address, Number(bits), family);
    }
  } catch {
    throw new Error('addresses or networks, separated by commas (10.0.0.1, 10.0.0.0/8, fd00::/8)');
  }
  return list;
}

const doors = ['closed', 'open', 'private'] as const;

function parseDoor(text: string): (typeof doors)[number] {
  const word = { true: 'open', false: 'closed' }[text];
  if (word) throw new Error(`${word}, which replaces ${text}`);
  return oneOf(doors)(text);
}

/** The server's settings. docs/settings.md links here. */
export const serverSettings = {
  listen: {
    name: 'LISTEN',
    default: undefined,
    meaning: 'port, `host:port`, or the path of a unix socket; by default `PORT`',
    parse: parseListen,
  },
  port: {
    name: 'PORT',
    default: '8080',
    meaning: 'port, where there is no `LISTEN`: hosts that run one process set it',
    parse: integer(1, 65_535),
  },
  trustedProxies: {
    name: 'TRUSTED_PROXIES',
    default: undefined,
    meaning: 'addresses and networks, separated by commas, of proxies in front of a port: docs/proxies.md',
    parse: parseProxies,
  },
  metrics: {
    name: 'METRICS',
    default: 'closed',
    meaning: '`open`: without nginx, `/metrics` is answered to everybody who reaches the port',
    parse: oneOf(['closed', 'open']),
  },
  dashboard: {
    name: 'DASHBOARD',
    default: 'closed',
    meaning:
      '`open`: everybody who reaches the service may see `/dashboard`; `private`: who knows the password',
    parse: parseDoor,
  },
  dashboardPassword: {
    name: 'DASHBOARD_PASSWORD',
    default: undefined,
    meaning: 'for `DASHBOARD=private`: the user and the password, as `user:password`',
    secret: true,
    parse(text: string): string {
      if (!/^[^:]+:./s.test(text)) throw new Error('user:password');
      return text;
    },
  },
  /** Number of worker processes. */
  workers: {
    name: 'WEB_CONCURRENCY',
    default: undefined,
    meaning:
      'workers; by default one per available core, but no more than one per 128 MiB of the memory limit',
    parse: integer(1, 512),
  },
  /** Milliseconds. */
  workerTimeout: {
    name: 'WORKER_TIMEOUT',
    default: '30',
    meaning: 'seconds without a heartbeat after which a worker is killed and replaced; 0: never',
    parse: seconds(0),
  },
  /** Milliseconds. */
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
    meaning: 'up to so many requests more, at random, so that not all workers are replaced together',
    parse: integer(0, 1e9),
  },
  logLevel: {
    name: 'LOG_LEVEL',
    default: 'info',
    meaning: `least severe level that is logged: ${logLevels.join(', ')}`,
    parse: oneOf(logLevels),
  },
  /** Set in development only. */
  reload: {
    name: 'RELOAD',
    default: undefined,
    meaning: 'a file: whenever it is touched, the workers are replaced (`npm run dev`)',
    parse(text: string): string {
      if (!existsSync(text)) throw new Error('a file that exists');
      return text;
    },
  },
} satisfies Record<string, Setting<unknown>>;

/** Every setting there is, the app's own included. */
export const settings = { ...serverSettings, ...appSettings } satisfies Record<string, Setting<unknown>>;

export type Config = Omit<Values<typeof settings>, 'port'> & { listen: Listen; workers: number };

/**
 * Reads the configuration from environment variables; an empty one counts as absent.
 *
 * @throws {ConfigError} naming every variable that is wrong, what it had and what would be right.
 */
export function readConfig(environment: Record<string, string | undefined>): Config {
  const values = readSettings(settings, environment); // not copied: an access may read a file
  if (values.dashboard === 'private' && values.dashboardPassword === undefined) {
    throw new ConfigError([
      'DASHBOARD is "private"; right would be with DASHBOARD_PASSWORD_FILE, a file that has user:password',
    ]);
  }
  const { port, listen = { port }, workers = chooseWorkers() } = values;
  return Object.assign(values, { listen, workers });
}

/** Bytes: a loaded worker takes some 110 MB (measured). */
const memoryPerWorker = 128 * 2 ** 20;

function chooseWorkers(): number {
  const memory = process.constrainedMemory() || Number.POSITIVE_INFINITY; // without a limit 0 or undefined, by version
  return Math.max(1, Math.min(availableParallelism(), Math.floor(memory / memoryPerWorker)));
}
