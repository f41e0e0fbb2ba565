import { PassThrough } from 'node:stream';
import Router from '@koa/router';
import type { Polls } from './polls.ts';

export function createRoutes(polls: Polls): { router: Router; endStreams: () => void } {
  const router = new Router();
  const streams = new Set<PassThrough>();
  let draining = false;

  router.get('/', async (ctx) => {
    ctx.body = await polls.result();
  });

  router.post('/vote/:choice', async (ctx) => {
    await polls.vote(String(ctx.params.choice), ctx.state.requestId);
    ctx.status = 204;
  });

  router.get('/events', (ctx) => {
    if (draining) ctx.throw(503, 'stopping');
    const stream = new PassThrough();
    streams.add(stream);
    stream.once('close', () => streams.delete(stream));
    stream.write('retry: 1000\n\n');
    const timer = setInterval(() => stream.write(': still here\n\n'), 1_000);
    stream.once('close', () => clearInterval(timer));
    ctx.type = 'text/event-stream';
    ctx.body = stream;
  });

  return {
    router,
    endStreams() {
      draining = true;
      for (const stream of streams) stream.end();
    },
  };
}
