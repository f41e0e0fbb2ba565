// The ceiling: the same nginx and Koa without Redis, each worker counting for itself. Beyond it lies only the price of
// counting exactly once. APP=koa: Koa alone, without this service's routes, negotiation and request ids.
import cluster from 'node:cluster';
import { chmodSync } from 'node:fs';
import Koa from 'koa';
import { createRoutes } from '../../../dist/app/routes.js';
import { createHttpApp } from '../../../dist/server/http-app.js';

cluster.schedulingPolicy = cluster.SCHED_NONE;

if (cluster.isPrimary) {
  for (let worker = 0; worker < Number(process.env.WEB_CONCURRENCY); worker++) cluster.fork();
} else {
  let hits = 0;
  const router = createRoutes({ visit: async () => ++hits });
  const service = { router, ready: async () => {} };
  const app =
    process.env.APP === 'koa' ? new Koa() : createHttpApp(service, { isTrustedProxy: () => true }).koa; // nginx' ids
  app.use((ctx) => {
    hits += 1;
    ctx.body = `I've been seen ${hits} times.\n`;
  });
  const server = app.listen(process.env.LISTEN, () => chmodSync(process.env.LISTEN, 0o666));
  server.keepAliveTimeout = 65_000;
}
