/**
 * A service of the tests' own, with what a test wants to happen to a request: it is slow, it fails, it never ends. It
 * takes the place of the app in a copy of what is compiled (../test-service.ts).
 */
import { existsSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import Router from '@koa/router';
import type { Context, Service } from '../../../src/contract.ts';
import type { Plot } from '../../../src/plots.ts';

const methods = ['GET', 'POST'];

async function waitForFile(file: string): Promise<void> {
  while (!existsSync(file)) await new Promise((resume) => setTimeout(resume, 5));
}

const figures: Plot[] = [
  {
    kind: 'plot',
    name: 'steps',
    title: 'Steps',
    controls: { step: { type: 'slider', label: 'Step', min: 1, max: 9, value: 1 } },
    rows: ({ step }: { step: number }) => Array.from({ length: 40 }, (_, n) => ({ n: n * step })),
    figure: { mark: 'bar', encoding: { x: { field: 'n', bin: true }, y: { aggregate: 'count' } } },
  },
];

export async function openService({ log, config }: Context): Promise<Service> {
  const router = new Router({ methods });
  const streams = new Set<ServerResponse>();
  let [requests, inFlight, draining] = [0, 0, false];

  router.use((ctx, next) => {
    requests += 1;
    inFlight += 1;
    ctx.res.once('close', () => {
      inFlight -= 1;
    });
    return next();
  });

  router.get('/', (ctx) => {
    ctx.body = `${(config as { greeting?: string }).greeting}\n`;
  });

  // What the service knows of the client.
  router.get('/client', (ctx) => {
    ctx.body = { id: ctx.state.requestId, ip: ctx.ip };
  });

  // Is answered when there is such a file.
  router.get('/held', async (ctx) => {
    await waitForFile(String(ctx.query.until));
    ctx.body = 'at last\n';
  });

  // A stream of events that never ends by itself.
  router.get('/stream', (ctx) => {
    ctx.respond = false;
    ctx.res.writeHead(200, { 'Content-Type': 'text/event-stream' });
    ctx.res.write('data: first\n\n');
    if (draining) ctx.res.end();
    else streams.add(ctx.res);
    ctx.res.once('close', () => streams.delete(ctx.res));
  });

  // Kills its worker.
  router.get('/fatal', async () => {
    setTimeout(() => {
      throw new Error('nobody catches this');
    });
    await new Promise(() => {});
  });

  router.get('/broken', () => {
    throw new Error('a mistake in the code');
  });

  router.post('/echo', async (ctx) => {
    ctx.body = await text(ctx.req);
  });

  return {
    router,
    plots: { figures },
    async ready() {},
    drain() {
      log.info('service drains');
      draining = true;
      for (const stream of streams) stream.end('data: last\n\n');
    },
    async close() {
      log.info({ requests, in_flight: inFlight }, 'service closed');
    },
  };
}
