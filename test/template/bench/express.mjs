// What one writes first: Express and one INCR a visit. One process; the benchmark runs two behind nginx.
import express from 'express';
import { createClient } from 'redis';

const redis = createClient({ url: process.env.REDIS_URL });
await redis.connect();

const app = express();
app.get('/', async (_request, response) => {
  const hits = await redis.incr('hits');
  response.type('text/plain').send(`I've been seen ${hits} times.\n`);
});
app.listen(Number(process.env.LISTEN), '127.0.0.1');
