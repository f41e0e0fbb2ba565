/** The stacks that are compared, each on a Redis of its own, all at the same time and only one at work. */
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type App, startApp } from '../../support/app.ts';
import { nginxArguments, startNginx } from '../../support/nginx.ts';
import { childrenOf, statOf, temporaryDirectory } from '../../support/processes.ts';
import { type Redis, startRedis } from '../../support/redis.ts';
import { freePort, request } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';

export interface Stack {
  name: string;
  port: number;
  redis?: Redis;
  /** What its clients send to Redis. */
  commands: string[];
  app?: App;
  /** Process ids by part: app, nginx, redis. */
  parts?: Record<string, number[]>;
  /** How many times as fast the first stack is meant to be. Printed only: a busy machine is no defect. */
  aim?: number;
}

/** Microseconds of processor time that each part has taken so far. */
export function processorTimes({ parts = {} }: Stack): Record<string, number> {
  const tick = 10_000; // microseconds; Linux' USER_HZ is 100 everywhere
  const timeOf = (pid: number) => {
    const [, , , , , , , , , , , user = 0, system = 0] = statOf(pid) ?? [];
    return (Number(user) + Number(system)) * tick;
  };
  return Object.fromEntries(
    Object.entries(parts).map(([part, pids]) => [
      part,
      pids.map(timeOf).reduce((sum, time) => sum + time, 0),
    ]),
  );
}

const endings: (() => Promise<unknown>)[] = [];

/** Ends what this file has started itself; stopAll() ends the rest. */
export async function stopStacks(): Promise<void> {
  for (let end = endings.pop(); end; end = endings.pop()) await end();
}

function start(command: string, args: string[], env: Record<string, string> = {}): number {
  const child = spawn(command, args, {
    cwd: __dirname,
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  endings.push(async () => {
    if (child.exitCode !== null) return;
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await exited;
  });
  return child.pid as number;
}

/** As it is shipped: Redis' append-only file included, synced at each commit, which the others go without. */
export async function startThisStack(workers = 2, settings: Record<string, string> = {}): Promise<Stack> {
  const redis = await startRedis({ appendOnly: true });
  const socketPath = join(temporaryDirectory(), 'app.sock');
  const env = { REDIS_URL: redis.url, LISTEN: socketPath, WEB_CONCURRENCY: String(workers), ...settings };
  const app = await startApp({ env });
  const nginx = await startNginx(socketPath, { buffered: true });
  const [, server] = /process_id:(\d+)/.exec(String(await redis.command('INFO', 'server'))) ?? [];
  const parts = { app: app.workers(), nginx: childrenOf(nginx.pid), redis: [Number(server)] };
  return { name: 'this stack', port: nginx.port, redis, app, parts, commands: ['evalsha', 'eval', 'ping'] };
}

export async function startCeiling(app: 'whole' | 'koa'): Promise<Stack> {
  const socketPath = join(temporaryDirectory(), 'app.sock');
  const pid = start(process.execPath, ['ceiling.mjs'], {
    LISTEN: socketPath,
    WEB_CONCURRENCY: '2',
    APP: app,
  });
  await waitFor(() => existsSync(socketPath), 'the ceiling to listen');
  const nginx = await startNginx(socketPath, { buffered: true });
  const name = app === 'koa' ? 'Koa alone, same nginx' : 'the same nginx and app without Redis';
  const parts = { app: childrenOf(pid), nginx: childrenOf(nginx.pid) };
  return { name, port: nginx.port, parts, commands: [], ...(app === 'koa' && { aim: 0.72 }) };
}

export async function startExpress(): Promise<Stack> {
  const redis = await startRedis();
  const ports = [await freePort(), await freePort()];
  for (const port of ports) {
    start(process.execPath, ['express.mjs'], {
      REDIS_URL: redis.url,
      LISTEN: String(port),
      NODE_ENV: 'production',
    });
  }
  for (const port of ports) await waitFor(() => request({ port }), 'Express to listen', 20_000);
  const port = await startPlainNginx(ports);
  return { name: 'Express × 2, an INCR a visit, plain nginx', port, redis, commands: ['incr'], aim: 5 };
}

export async function startTutorial(): Promise<Stack> {
  const redis = await startRedis();
  const behind = await freePort();
  const gunicorn = '/usr/bin/gunicorn'; // Debian's: one from elsewhere would not find Debian's Flask
  const args = ['--workers', '4', '--bind', `127.0.0.1:${behind}`, '--log-level', 'warning', 'tutorial:app'];
  start(gunicorn, args, { REDIS_URL: redis.url, PYTHONDONTWRITEBYTECODE: '1' });
  const port = await startPlainNginx([behind]);
  return {
    name: 'the tutorial: Flask, Gunicorn × 4, plain nginx',
    port,
    redis,
    commands: ['incrby'],
    aim: 6,
  };
}

/** Node.js and nothing else: what any start costs. */
export async function startBareNode(): Promise<{ port: number }> {
  const port = await freePort();
  start(process.execPath, [
    '-e',
    `require('node:http').createServer((_, answer) => answer.end('1')).listen(${port})`,
  ]);
  return { port };
}

/** nginx as one writes it first: `proxy_pass`, and everything else as it comes. */
async function startPlainNginx(behind: number[]): Promise<number> {
  const directory = temporaryDirectory();
  const port = await freePort();
  const file = join(directory, 'nginx.conf');
  writeFileSync(
    file,
    `worker_processes auto;
    pid ${directory}/nginx.pid;
    error_log ${directory}/error.log;
    events { worker_connections 1024; }
    http {
      access_log ${directory}/access.log;
      client_body_temp_path ${directory}/body;
      proxy_temp_path ${directory}/proxy;
      fastcgi_temp_path ${directory}/fastcgi;
      uwsgi_temp_path ${directory}/uwsgi;
      scgi_temp_path ${directory}/scgi;
      upstream app { ${behind.map((to) => `server 127.0.0.1:${to};`).join(' ')} }
      server {
        listen ${port};
        location / { proxy_pass http://app; proxy_set_header Host $host; }
      }
    }`,
  );
  start('nginx', nginxArguments(file, directory));
  await waitFor(async () => (await request({ port })).status === 200, 'a plain stack to answer', 20_000);
  return port;
}
