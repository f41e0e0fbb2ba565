/** A redis-server of the tests' own. */
import { atEnd, type Running, startProcess, temporaryDirectory } from './processes.ts';
import { freePort } from './requests.ts';
import { waitFor } from './wait.ts';

export interface Redis {
  readonly port: number;
  readonly url: string;
  /** Sends one command on a connection of its own. */
  command(...args: string[]): Promise<unknown>;
  /** SIGKILL, and waits for the end. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing is answered. */
  freeze(): void;
  thaw(): void;
  /** Starts it again, after kill(), on the same port and data. */
  start(): Promise<void>;
}

/** A redis-server of its own. With `appendOnly` a killed one comes back with its data. */
export async function startRedis(
  options: { appendOnly?: boolean; port?: number; args?: string[] } = {},
): Promise<Redis> {
  const redis = await prepareRedis(options);
  await redis.start();
  return redis;
}

/** The same, not yet started: for what finds no Redis at its own start. */
export async function prepareRedis(
  options: { appendOnly?: boolean; port?: number; args?: string[] } = {},
): Promise<Redis> {
  const directory = temporaryDirectory();
  const port = options.port ?? (await freePort());
  const url = `redis://127.0.0.1:${port}`;
  let server: Running | undefined;

  async function command(...args: string[]): Promise<unknown> {
    const { createClient } = await import('redis'); // which most files of tests need not load
    const client = createClient({ url, socket: { reconnectStrategy: false } });
    client.on('error', () => {}); // the call below rejects with it
    try {
      await client.connect();
      return await client.sendCommand(args);
    } finally {
      client.destroy();
    }
  }
  async function kill(): Promise<void> {
    server?.kill('SIGKILL');
    await server?.exited;
    server = undefined;
  }
  atEnd(kill);

  return {
    port,
    url,
    command,
    kill,
    freeze: () => server?.kill('SIGSTOP'),
    thaw: () => server?.kill('SIGCONT'),
    async start() {
      if (server) throw new Error('Redis runs already');
      const appendOnly = options.appendOnly ? 'yes' : 'no';
      server = startProcess('redis-server', [
        ...['--port', String(port), '--bind', '127.0.0.1', '--dir', directory, '--daemonize', 'no'],
        ...['--save', '', '--appendonly', appendOnly, '--appendfsync', 'always', ...(options.args ?? [])],
      ]);
      const { output } = server;
      await waitFor(() => /Ready to accept connections/.test(output()), 'Redis to accept connections').catch(
        (error) => {
          throw new Error(`redis-server did not start:\n${output()}`, { cause: error });
        },
      );
    },
  };
}
