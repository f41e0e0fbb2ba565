/**
 * The listening socket: bound by the primary and inherited by its workers, as in Gunicorn. While the primary lives no
 * connection is refused: if all workers die at once, it waits in the socket's queue until one listens again.
 */
import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { chmodSync, existsSync, lstatSync, renameSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import type { Listen } from './config.ts';
import { ConfigError } from './env.ts';

/** What a worker is forked with, before the socket: its standard streams and its channel to the primary. */
const streams = ['inherit', 'inherit', 'inherit', 'ipc'];

/** What a worker listens on: the descriptor that follows them. */
export const inherited = { fd: streams.length };

export interface ListeningSocket {
  /** What a worker has to be forked with to inherit it. */
  stdio: (string | number)[];
  /** Lets clients find it: to be called as soon as a worker listens, as often as one likes. */
  publish(): void;
  /** What is not accepted by a worker that still listens is refused from now on. */
  close(): void;
}

interface Handle {
  fd: number;
  close(): void;
  getsockname?(name: { port?: number }): number;
}

// What Node's own cluster binds with. The public listen() would have the primary accept connections, too.
const { _createServerHandle: createHandle } = net as unknown as {
  _createServerHandle(address: string | null, port: number, family: number): Handle | number;
};

/** @throws {ConfigError} if LISTEN cannot be had: in use, forbidden, unknown, or the path of something that is not a socket. */
export async function openSocket(listen: Listen): Promise<ListeningSocket> {
  try {
    return 'path' in listen ? openUnixSocket(listen.path) : await openPort(listen.port, listen.host);
  } catch (cause) {
    const wanted = 'path' in listen ? listen.path : [listen.host, listen.port].filter(Boolean).join(':');
    throw new ConfigError([`LISTEN is ${wanted}: ${(cause as Error).message}`], { cause });
  }
}

async function openPort(port: number, host?: string): Promise<ListeningSocket> {
  const { address, family } = host ? await lookup(host) : { address: null, family: 4 };
  const handle = bind(address, port, family);
  // That a port is in use is kept back until listen(), and a bound one that is not may become any other.
  const name: { port?: number } = {};
  handle.getsockname?.(name);
  if (name.port !== port) throw systemError('EADDRINUSE');
  return { stdio: [...streams, handle.fd], publish() {}, close: () => handle.close() };
}

/**
 * A temporary name is bound, and moved over the path when the first worker listens: a file left by a killed process is
 * no obstacle, and a second instance succeeds a first one without a gap. The path is never removed at the end, since
 * by then it may be the successor's.
 */
function openUnixSocket(path: string): ListeningSocket {
  if (!(lstatSync(path, { throwIfNoEntry: false })?.isSocket() ?? true)) {
    throw new Error('there is a file that is not a socket');
  }
  if (!existsSync(dirname(path))) throw new Error('there is no such folder');
  const temporary = `${path}.${randomBytes(3).toString('hex')}`;
  const handle = bind(temporary, -1, -1);
  let published = false;
  return {
    stdio: [...streams, handle.fd],
    publish() {
      if (published) return;
      chmodSync(temporary, 0o666); // nginx runs as another user
      renameSync(temporary, path);
      published = true;
    },
    close: () => handle.close(),
  };
}

function bind(address: string | null, port: number, family: number): Handle {
  const handle = createHandle(address, port, family);
  if (typeof handle === 'number') throw systemError(handle);
  return handle;
}

/** By its number or its name, as users know it: `address already in use (EADDRINUSE)`. */
function systemError(error: number | string): Error {
  for (const [number, [name, meaning]] of getSystemErrorMap()) {
    if (error === number || error === name) return new Error(`${meaning} (${name})`);
  }
  return new Error(`unknown error ${error}`);
}
