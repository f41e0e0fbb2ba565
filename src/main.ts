import cluster from 'node:cluster';
import { watch } from 'node:fs';
import { openPrimary } from './app/primary.ts';
import { answerRequests } from './contract.ts';
import { createPrimaryHistory } from './dashboard/history.ts';
import { type Config, readConfig } from './server/config.ts';
import { ConfigError } from './server/env.ts';
import { InstanceMetrics } from './server/instance-metrics.ts';
import { createLog } from './server/log.ts';
import type { FromPrimary, FromWorker } from './server/messages.ts';
import { deduplicationWindow } from './server/retry.ts';
import { openSocket } from './server/socket.ts';
import { Supervisor } from './server/supervisor.ts';
import { hasTerminal } from './server/terminal.ts';
import type { Stop, StopScope } from './server/worker.ts';

const config = configure();
const name = cluster.isPrimary ? 'primary' : `worker ${cluster.worker?.id}`;
const log = await createLog(config.logLevel, name, process.stdout.isTTY);
// Setting the title overwrites the command line, where debuggers look for `--inspect-port`: the title keeps that flag.
const inspector = process.execArgv.filter((argument) => argument.startsWith('--inspect-port='));
process.title = [`app: ${name}`, ...inspector].join(' ');
process.on('uncaughtExceptionMonitor', (error) => log.fatal({ err: error }, 'crashed'));

// throng brings all of lodash along, a tenth of what a worker's start costs, and does nothing in a worker but this call.
if (cluster.isWorker) runWorker();
else {
  const { default: throng } = await import('throng');
  throng({
    count: config.workers,
    lifetime: 0, // the supervisor replaces workers
    signals: ['none', 'none'], // the supervisor stops them; throng fills a shorter list up with SIGTERM and SIGINT
    master: runPrimary,
    worker: runWorker,
  });
}

function configure(): Config {
  try {
    return readConfig(process.env);
  } catch (error) {
    return exitWithConfigError(error);
  }
}

function exitWithConfigError(error: unknown): never {
  if (!(error instanceof ConfigError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}

/** When this resolves, throng forks the first workers. */
async function runPrimary(): Promise<void> {
  const metrics = new InstanceMetrics();
  const answerWorker = openPrimary({ config, log, deduplicationWindow });
  const answerLive = createPrimaryHistory();
  const supervisor = new Supervisor(config, log, {
    observer: metrics,
    onFork(worker) {
      metrics.watch(worker);
      answerRequests(worker, 'metrics', () => metrics.toText(supervisor.wanted));
      answerLive(worker);
      answerWorker(worker);
    },
  });
  const terminal = hasTerminal();
  process.on('SIGHUP', () => (terminal && !hasTerminal() ? supervisor.stop() : supervisor.reload()));
  process.on('SIGTTIN', () => supervisor.scale(1));
  process.on('SIGTTOU', () => supervisor.scale(-1));
  process.on('SIGTERM', supervisor.stop);
  process.on('SIGINT', supervisor.stop);
  supervisor.done.then((code) => process.exit(code));

  let socket = await openSocket(config.listen).catch(exitWithConfigError);
  supervisor.start(socket);
  setInterval(async () => {
    if (!(await socket.isLost())) return;
    log.warn('nobody listens at the path of the socket any more: taking it back');
    socket = await openSocket(config.listen).catch(exitWithConfigError);
    supervisor.start(socket);
    supervisor.reload();
  }, 1_000);
  supervisor.serving.then(() => {
    log.info(`serving ${socket.address} from ${config.workers} worker${config.workers === 1 ? '' : 's'}`);
  });
  if (config.reload) onTouch(config.reload, supervisor.reload);
}

/** One touch may make two events. */
function onTouch(file: string, reload: () => void): void {
  let timer: NodeJS.Timeout | undefined;
  watch(file, () => {
    clearTimeout(timer);
    timer = setTimeout(reload, 10);
  });
}

/** What serves is loaded here, so that the primary stays small and a reload reads new code. */
async function runWorker(): Promise<void> {
  // Without this Node ends a worker at once when its primary dies, with its requests in flight.
  if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
  let stop: Stop | undefined;
  let stopping = false;
  async function shutDown(scope: StopScope): Promise<void> {
    if (stopping) return; // Ctrl-C comes twice: from the terminal, and from the primary as SIGTERM
    stopping = true;
    await stop?.(scope); // a worker that does not listen yet has nothing to finish
    process.exit(0);
  }
  process.on('SIGTERM', () => shutDown('instance'));
  process.on('SIGINT', () => shutDown('instance'));
  process.on('disconnect', () => shutDown('instance')); // the primary is gone
  process.on('message', (message: FromPrimary) => {
    if (message.type === 'retire') shutDown('worker');
  });
  try {
    const { startWorker } = await import('./server/worker.ts');
    stop = await startWorker(config, log, process, (answer) => {
      process.on('uncaughtExceptionMonitor', answer);
    });
  } catch (error) {
    const reason = (error instanceof Error && error.stack) || String(error);
    process.send?.({ type: 'boot-failed', reason } satisfies FromWorker, () => process.exit(1));
  }
}
