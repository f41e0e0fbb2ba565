// The ceiling: Koa that counts nothing. What this stack does beyond it is the price of counting exactly once.
import cluster from 'node:cluster';
import { chmodSync } from 'node:fs';
import Koa from 'koa';

cluster.schedulingPolicy = cluster.SCHED_NONE;

if (cluster.isPrimary) {
  for (let worker = 0; worker < Number(process.env.WEB_CONCURRENCY); worker++) cluster.fork();
} else {
  const app = new Koa();
  let hits = 0;
  app.use((ctx) => {
    hits += 1;
    ctx.body = `I've been seen ${hits} times.\n`;
  });
  const server = app.listen(process.env.LISTEN, () => chmodSync(process.env.LISTEN, 0o666));
  server.keepAliveTimeout = 65_000;
}
