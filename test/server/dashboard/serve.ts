/** A dashboard in this process, behind the server's own application. */
import { EventEmitter } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import Router from '@koa/router';
import type { Channel, Log } from '../../../src/contract.ts';
import { openDashboard } from '../../../src/dashboard/dashboard.ts';
import type { DoorSettings } from '../../../src/dashboard/door.ts';
import { createPrimaryHistory } from '../../../src/dashboard/history.ts';
import type { Plot, Plots } from '../../../src/plots.ts';
import { createHttpApp } from '../../../src/server/http-app.ts';
import { Streams } from '../../../src/server/streams.ts';
import { atEnd } from '../../support/processes.ts';
import { type RequestOptions, request } from '../../support/requests.ts';

export interface Served {
  port: number;
  /** What was logged as an error. */
  logged: { err: Error; request_id?: string }[];
  ask(path: string, options?: RequestOptions): ReturnType<typeof request>;
  /** The same, as JSON. */
  // biome-ignore lint/suspicious/noExplicitAny: JSON
  read(path: string): Promise<{ status: number; body: any; headers: Record<string, unknown> }>;
}

/** Both ends of a channel in one process. */
function createChannel(): { worker: Channel; primary: Channel } {
  const [worker, primary] = [new EventEmitter(), new EventEmitter()];
  const join = (own: EventEmitter, other: EventEmitter): Channel =>
    Object.assign(own, {
      send: (message: object) =>
        setImmediate(() => other.emit('message', structuredClone(message))) !== undefined,
      connected: true,
    });
  return { worker: join(worker, primary), primary: join(primary, worker) };
}

export async function serve(
  figures: Plot[],
  {
    redis,
    development = false,
    ...config
  }: Partial<DoorSettings> & { development?: boolean; redis?: Plots['redis'] } = {},
): Promise<Served> {
  const logged: Served['logged'] = [];
  const write = () => {};
  const error = (fields: object | string) => logged.push(fields as { err: Error });
  const log = { debug: write, info: write, warn: write, error, fatal: write } as Log;
  const { worker, primary } = createChannel();
  createPrimaryHistory()(worker);
  const { router, close } = openDashboard(
    { figures, redis },
    {
      config: { dashboard: 'open', ...config, reload: development ? 'any file' : undefined },
      log,
      primary,
      stream: new Streams().open,
    },
  );
  const service = { router: new Router(), async ready() {}, async close() {} };
  const { koa } = createHttpApp(service, { dashboard: router, isTrustedProxy: () => true });
  koa.silent = true;
  const server = createServer(koa.callback());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  atEnd(async () => {
    server.closeAllConnections();
    server.close();
    await close();
  });
  const { port } = server.address() as AddressInfo;
  const ask: Served['ask'] = (path, options) => request({ port }, path, options);
  return {
    port,
    logged,
    ask,
    async read(path) {
      const { status, headers, body } = await ask(`/dashboard/${path}`);
      return { status, headers, body: JSON.parse(body) };
    },
  };
}
