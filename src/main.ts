import cluster from 'node:cluster';
import { watch } from 'node:fs';
import throng from 'throng';
import { openPrimary } from './app/primary.ts';
import { type Config, readConfig } from './server/config.ts';
import { ConfigError } from './server/env.ts';
import { createLog } from './server/log.ts';
import type { FromPrimary, FromWorker } from './server/messages.ts';
import { deduplicationWindow } from './server/retry.ts';
import { openSocket } from './server/socket.ts';
import { superviseWorkers } from './server/supervisor.ts';
import { hasTerminal } from './server/terminal.ts';
import type { StopScope } from './server/worker.ts';

// The supervisor has its own deadline, which tells of what it cut off: throng's must never come (largest timer).
const never = 2 ** 31 - 1;

const config = configure();
const name = cluster.isPrimary ? 'primary' : `worker ${cluster.worker?.id}`;
const log = await createLog(config.logLevel, name, process.stdout.isTTY);
// A title hides the arguments, among which debuggers look for a worker's port.
const inspector = process.execArgv.filter((argument) => argument.startsWith('--inspect-port='));
process.title = [`app: ${name}`, ...inspector].join(' ');
process.on('uncaughtExceptionMonitor', (error) => log.fatal({ err: error }, 'crashed'));

throng({ count: config.workers, grace: never, master: superviseAll, worker: work });

function configure(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    return refuse(error);
  }
}

/** In the primary, before throng forks. */
async function superviseAll(): Promise<void> {
  const answerWorker = openPrimary({ config, log, deduplicationWindow });
  const socket = await openSocket(config.listen).catch(refuse);
  const supervisor = superviseWorkers(config, log, socket, answerWorker);
  const terminal = hasTerminal();
  process.on('SIGHUP', () => (terminal && !hasTerminal() ? supervisor.stop() : supervisor.reload()));
  process.on('SIGTTIN', () => supervisor.scale(1));
  process.on('SIGTTOU', () => supervisor.scale(-1));
  process.on('SIGTERM', supervisor.stop);
  process.on('SIGINT', supervisor.stop);
  if (config.reload) {
    let settled: NodeJS.Timeout | undefined;
    watch(new URL('.', import.meta.url), { recursive: true }, () => {
      clearTimeout(settled);
      settled = setTimeout(supervisor.reload, 20); // a compiler writes several files, and each more than once
    });
  }
  supervisor.serving.then(() => {
    const workers = config.workers === 1 ? '1 worker' : `${config.workers} workers`;
    log.info(`serving ${whereServed()} from ${workers}`);
  });
  supervisor.done.then((code) => process.exit(code));
}

function refuse(error: unknown): never {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}

function whereServed(): string {
  if ('path' in config.listen) return config.listen.path;
  const { host = 'localhost', port } = config.listen;
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** In each worker. What serves is loaded here, so that the primary stays small and a reload reads new code. */
async function work(): Promise<void> {
  const { worker } = cluster;
  if (!worker) throw new Error('not a worker');
  // The socket is there already: listen() must not ask the primary for one, as it does for a cluster's workers.
  Object.assign(cluster, { isPrimary: true });
  // Without this Node ends a worker at once when its primary dies, with its visits in flight.
  worker.exitedAfterDisconnect = true;
  const started = import('./server/worker.ts').then(({ startWorker }) => startWorker(config, log, process));

  let leaving = false;
  async function leave(scope: StopScope): Promise<void> {
    if (leaving) return; // Ctrl-C comes twice: from the terminal, and from the primary
    leaving = true;
    const stop = await started;
    await stop(scope);
    process.exit(0);
  }
  process.on('SIGTERM', () => leave('instance'));
  process.on('SIGINT', () => leave('instance'));
  process.on('disconnect', () => leave('instance')); // the primary is gone
  process.on('message', (message: FromPrimary) => {
    if (message.type === 'retire') leave('worker');
  });

  started.catch((error) => {
    const message: FromWorker = { type: 'boot-failed', reason: error?.stack ?? String(error) };
    process.send?.(message, () => process.exit(1));
  });
}
