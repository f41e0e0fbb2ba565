/** HTTP requests, and where they go. */
import { type Agent, type IncomingHttpHeaders, request as send } from 'node:http';
import { createServer } from 'node:net';

/** Where a server listens. */
export type Address = { port: number; host?: string } | { socketPath: string };

// Test files run in parallel, and a test may leave its port unused for a while. So each of jest's workers has its own.
const portsOfWorker = 2_500;
const firstPort = 10_000 + portsOfWorker * (Number(process.env.JEST_WORKER_ID ?? 0) % 9);

/** A free TCP port, below those that the system gives to outgoing connections (32768 and up). */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = firstPort + Math.floor(Math.random() * portsOfWorker);
    const free = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, () => server.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Buffer;
  agent?: Agent;
  /** Milliseconds; a request that takes longer hangs, which is a failure. */
  timeout?: number;
}

/** One HTTP request; rejects if there is no complete answer. */
export function request(to: Address, path = '/', options: RequestOptions = {}): Promise<Answer> {
  const { body, timeout = 20_000, agent, ...rest } = options;
  const where =
    'port' in to ? { host: to.host ?? '127.0.0.1', port: to.port } : { socketPath: to.socketPath };
  return new Promise((resolve, reject) => {
    const outgoing = send({ ...where, ...rest, path, agent: agent ?? false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => {
        text += part;
      });
      response.on('end', () => {
        clearTimeout(expiry);
        resolve({ status: response.statusCode as number, headers: response.headers, body: text });
      });
      response.on('error', (error) => {
        clearTimeout(expiry);
        reject(error);
      });
    });
    const expiry = setTimeout(
      () => outgoing.destroy(new Error(`no answer within ${timeout} ms: it hangs`)),
      timeout,
    );
    outgoing.on('error', (error) => {
      clearTimeout(expiry);
      reject(error);
    });
    outgoing.end(body);
  });
}

/** The process id of the worker that gave an answer, as its X-Worker header says: HOST:PID. */
export function workerOf({ headers }: Pick<Answer, 'headers'>): number {
  return Number(String(headers['x-worker']).split(':')[1]);
}
