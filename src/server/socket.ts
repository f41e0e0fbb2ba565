/**
 * The listening socket: bound by the primary and inherited by its workers, as in Gunicorn. While the primary lives no
 * connection is refused: if all workers die at once, it waits in the socket's queue until one listens again.
 *
 * Five places in src rely on what Node or throng do not promise. Look at them when one of these has a new major version:
 * - `_createServerHandle` of node:net, in bindPrivately(): what Node 26 has in public as `net.BoundSocket`.
 * - `isPrimary` of node:cluster, in listenInherited(): is made true while a worker calls listen().
 * - `exitedAfterDisconnect` of node:cluster, in main.ts: keeps a worker alive when its primary dies.
 * - `net.Server.prototype.close` on an HTTP server, in http-server.ts: closes no idle connection.
 * - `signals` of throng, in main.ts: names of no signal, so that the supervisor alone stops the workers.
 */
import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { chmodSync, existsSync, lstatSync, renameSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import type { Listen } from './config.ts';
import { ConfigError } from './env.ts';

/** What a worker is forked with, before the socket: its standard streams and its channel to the primary. */
const streams = ['inherit', 'inherit', 'inherit', 'ipc'];

/** What a worker listens on: the descriptor that follows them. */
const inherited = { fd: streams.length };

export interface ListeningSocket {
  /** As users know it: a URL, or the path of a unix socket. */
  readonly address: string;
  /** What a worker has to be forked with to inherit it. */
  stdio: (string | number)[];
  /** Lets clients find it: to be called as soon as a worker listens, as often as one likes. */
  publish(): void;
  /** Whether clients find nobody there: another instance has taken the path over, and has ended. */
  isLost(): Promise<boolean>;
  /** What is not accepted by a worker that still listens is refused from now on. */
  close(): void;
}

/** A socket that is bound and accepts no connection, as the public listen() would have the primary do. */
interface BoundSocket {
  fd(): number;
  close(): void;
}
type Address = { path: string } | { host: string; port: number };

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
  const bound = host ? bind({ host: (await lookup(host)).address, port }) : bindToEveryAddress(port);
  return {
    address: `http://${host?.includes(':') ? `[${host}]` : (host ?? 'localhost')}:${port}`,
    stdio: [...streams, bound.fd()],
    publish() {},
    isLost: async () => false,
    close: () => bound.close(),
  };
}

/** Of IPv6 and of IPv4, or of the latter alone where the machine has no IPv6. */
function bindToEveryAddress(port: number): BoundSocket {
  try {
    return bind({ host: '::', port });
  } catch {
    return bind({ host: '0.0.0.0', port });
  }
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
  const bound = bind({ path: temporary });
  const { ino } = lstatSync(temporary);
  let published = false;
  return {
    address: path,
    stdio: [...streams, bound.fd()],
    publish() {
      if (published) return;
      chmodSync(temporary, 0o666); // nginx runs as another user
      renameSync(temporary, path);
      published = true;
    },
    isLost: async () =>
      published && lstatSync(path, { throwIfNoEntry: false })?.ino !== ino && (await refuses(path)),
    close() {
      published = false;
      bound.close();
    },
  };
}

async function refuses(path: string): Promise<boolean> {
  const socket = net.connect(path);
  const { code } = await once(socket, 'connect').catch((error) => error);
  socket.destroy();
  return code === 'ECONNREFUSED' || code === 'ENOENT';
}

function bind(address: Address): BoundSocket {
  const { BoundSocket } = net as { BoundSocket?: new (address: Address) => BoundSocket };
  if (!BoundSocket) return bindPrivately(address);
  try {
    return new BoundSocket(address);
  } catch (error) {
    throw systemError((error as NodeJS.ErrnoException).code ?? '');
  }
}

interface Handle extends Pick<BoundSocket, 'close'> {
  fd: number;
  getsockname?(name: { port?: number }): number;
}

/** Before Node 26: what Node's own cluster binds with. */
function bindPrivately(address: Address): BoundSocket {
  const { _createServerHandle: createHandle } = net as unknown as {
    _createServerHandle(address: string, port: number, family: number): Handle | number;
  };
  const handle =
    'path' in address
      ? createHandle(address.path, -1, -1)
      : createHandle(address.host, address.port, net.isIP(address.host));
  if (typeof handle === 'number') throw systemError(handle);
  // libuv reports EADDRINUSE only at listen(). Until then a failed bind shows as another port number, so compare: the
  // error comes before any fork.
  const name: { port?: number } = {};
  handle.getsockname?.(name);
  if ('port' in address && name.port !== address.port) throw systemError('EADDRINUSE');
  return { fd: () => handle.fd, close: () => handle.close() };
}

/** By its number or its name, as users know it: `address already in use (EADDRINUSE)`. */
function systemError(error: number | string): Error {
  for (const [number, [name, meaning]] of getSystemErrorMap()) {
    if (error === number || error === name) return new Error(`${meaning} (${name})`);
  }
  return new Error(`unknown error ${error}`);
}

/**
 * In a worker: accepts connections on the socket of its primary. Resolves when it does.
 *
 * A cluster's worker asks its primary for a socket even if it is given a descriptor; Node listens on the descriptor
 * itself only where `cluster.isPrimary` is true. So it is made true for this one call.
 */
export function listenInherited(server: net.Server): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const { isPrimary } = cluster;
    Object.assign(cluster, { isPrimary: true });
    try {
      server.listen(inherited, resolve);
    } finally {
      Object.assign(cluster, { isPrimary });
    }
  });
}
