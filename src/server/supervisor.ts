/**
 * What Gunicorn's arbiter and Puma's cluster do, on throng: keeps the number of workers, replaces them without a
 * gap, and gives up loudly when none can boot. throng forks the first workers; all others are forked here.
 *
 * Events only change what is known. `reconcile()` then compares the workers there are with those wanted, so that a
 * lost or repeated event does no harm.
 */
import nodeCluster, { type Cluster, type Worker } from 'node:cluster';
import type { Log } from '../contract.ts';
import { createBackoff } from './backoff.ts';
import type { Config } from './config.ts';
import type { InstanceMetrics } from './instance-metrics.ts';
import type { StartReason } from './messages.ts';
import { type Action, nextLook, reconcile, type Situation } from './reconcile.ts';
import type { ListeningSocket } from './socket.ts';
import { type Timeouts, WorkerHandle } from './worker-handle.ts';

/** Milliseconds in which a forked worker has to listen. */
export const bootTimeout = 30_000;
/** Milliseconds that a process may outlive its channel. */
const orphanTimeout = 500;
/** Deaths at boot in a row, while no worker listens, after which the service gives up. */
export const maxBootFailures = 6;
/** Milliseconds before the next try to boot a worker. */
const initialBackoff = 100;
const maxBackoff = 5_000;

type Settings = Pick<Config, 'workers' | 'workerTimeout' | 'gracefulTimeout'>;
type Forks = Pick<Cluster, 'fork' | 'on' | 'setupPrimary'>;

interface Options {
  /** Called with each new worker, before it has sent anything. */
  onFork(worker: Worker): void;
  /** Hears of workers that listen, are replaced, or die. */
  observer: Pick<InstanceMetrics, 'countStart' | 'announce'>;
  cluster?: Forks;
}

export class Supervisor {
  /** Resolves when all workers listen for the first time. */
  readonly serving: Promise<void>;
  /** Resolves to the exit code when no worker is left: 0 if each could finish what it had begun. */
  readonly done: Promise<number>;

  readonly #log: Log;
  readonly #onFork: Options['onFork'];
  readonly #observer: Options['observer'];
  readonly #cluster: Forks;
  readonly #timeouts: Timeouts;
  readonly #workers = new Set<WorkerHandle>(); // the oldest first
  readonly #adopted = new WeakSet<Worker>(); // a fork that fails has ended before its 'fork' event
  readonly #vacancies: StartReason[] = []; // why workers are missing, until others listen
  #socket: ListeningSocket | undefined;
  #wanted: number;
  #generation = 1;
  readonly #backoff = createBackoff(initialBackoff, maxBackoff);
  #failures = 0; // deaths at boot since a worker last listened
  #retryAt = 0; // milliseconds on the monotonic clock
  #reloading = false;
  #reloadAgain = false;
  #stopping = false;
  #forced = false; // a worker was killed before it had finished
  #fatal: string | undefined;
  #look: NodeJS.Immediate | undefined;
  #timer: NodeJS.Timeout | undefined;
  #resolveServing!: () => void;
  #resolveDone!: (code: number) => void;

  constructor(config: Settings, log: Log, { onFork, observer, cluster = nodeCluster }: Options) {
    this.#log = log;
    this.#onFork = onFork;
    this.#observer = observer;
    this.#cluster = cluster;
    this.#wanted = config.workers;
    this.#timeouts = {
      boot: bootTimeout,
      heartbeat: config.workerTimeout,
      graceful: config.gracefulTimeout,
      orphan: orphanTimeout,
    };
    this.serving = new Promise((resolve) => {
      this.#resolveServing = resolve;
    });
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  /**
   * To be called before the first fork. Until then a reload has no effect, and a stop is the end. Called again, it gives
   * the next workers another socket.
   */
  start(socket: ListeningSocket): void {
    this.#cluster.setupPrimary({ stdio: socket.stdio });
    if (this.#socket) this.#socket.close();
    else this.#cluster.on('fork', (worker) => this.#adopt(worker));
    this.#socket = socket;
  }

  /** Replaces all workers by ones that run the code now on disk; if one of those cannot boot, keeps the old ones. */
  reload = (): void => {
    if (!this.#socket || this.#stopping) return;
    if (this.#reloading) {
      this.#reloadAgain = true; // the code on disk may be newer than what the new workers have read
      return;
    }
    this.#reloading = true;
    this.#generation += 1;
    this.#lookSoon();
  };

  /** The number of workers that there ought to be. */
  get wanted(): number {
    return this.#wanted;
  }

  /** One worker more or less, but never none. */
  scale(by: 1 | -1): void {
    if (this.#stopping) return;
    this.#wanted = Math.max(1, this.#wanted + by);
    this.#log.info(`${countWorkers(this.#wanted)} wanted`);
    this.#lookSoon();
  }

  /** Lets every worker finish what it has begun; kills those that take longer than gracefulTimeout. */
  stop = (): void => {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#socket?.close();
    this.#lookSoon();
  };

  #giveUp(reason: string): void {
    this.#fatal ??= reason;
    this.stop();
  }

  /**
   * setImmediate runs after the messages that wait were read. Otherwise a primary that was suspended (SIGSTOP, a
   * laptop asleep) would kill healthy workers as soon as it resumes.
   */
  #lookSoon(): void {
    this.#look ??= setImmediate(() => {
      this.#look = undefined;
      this.#reconcile();
    });
  }

  #reconcile(): void {
    if (!this.#socket && !this.#stopping) return; // throng is about to fork the first workers
    const now = performance.now();
    for (const action of reconcile(this.#situation(now))) this.#perform(action);
    clearTimeout(this.#timer);
    // With the same `now`: what has become due meanwhile still lies ahead of it, so the timer fires at once.
    const pause = nextLook(this.#situation(now)) - performance.now();
    if (pause < Number.POSITIVE_INFINITY)
      this.#timer = setTimeout(() => this.#lookSoon(), Math.max(pause, 1));
  }

  #situation(now: number): Situation<WorkerHandle> {
    return {
      now,
      workers: [...this.#workers],
      wanted: this.#wanted,
      generation: this.#generation,
      failures: this.#failures,
      retryAt: this.#retryAt,
      stopping: this.#stopping,
    };
  }

  #perform(action: Action<WorkerHandle>): void {
    switch (action.type) {
      case 'spawn':
        // At once and not by the event: if the system cannot fork, 'error' comes before 'fork'.
        this.#adopt(this.#cluster.fork());
        break;
      case 'retire':
        action.worker.retire();
        break;
      case 'terminate':
        action.worker.terminate();
        break;
      case 'kill':
        this.#killOverdue(action.worker);
        break;
      case 'settled':
        this.#onSettled();
        break;
      case 'exit':
        this.#onLastExit();
    }
  }

  #adopt(worker: Worker): void {
    if (this.#adopted.has(worker)) return;
    this.#adopted.add(worker);
    const handle = new WorkerHandle(worker, this.#generation, this.#timeouts);
    this.#workers.add(handle);
    handle.on('listening', () => this.#onListening(handle));
    handle.on('recycle', () => {
      this.#log.info(`worker ${handle.pid} has served its number of requests`);
      this.#vacancies.push('recycled');
      this.#observer.announce('recycled', handle.pid);
      this.#lookSoon();
    });
    handle.on('disconnect', () => this.#lookSoon());
    handle.on('unreachable', (error) =>
      this.#log.error({ err: error }, `worker ${handle.pid} cannot be reached`),
    );
    handle.on('exit', () => {
      this.#workers.delete(handle);
      if (handle.state !== 'stopping') this.#onUnexpectedExit(handle);
      this.#lookSoon();
    });
    this.#onFork(worker);
    this.#lookSoon();
  }

  #onListening({ pid }: WorkerHandle): void {
    this.#observer.countStart(this.#reloading ? 'reload' : (this.#vacancies.shift() ?? 'start'));
    this.#observer.announce('started', pid);
    this.#forgetFailures();
    try {
      this.#socket?.publish();
    } catch (error) {
      this.#giveUp(String(error));
    }
    this.#lookSoon();
  }

  #onSettled(): void {
    this.#resolveServing();
    if (!this.#reloading) return;
    this.#log.info(`reloaded: ${countWorkers(this.#wanted)} on the new code`);
    this.#observer.announce('reloaded');
    this.#endReload();
  }

  /** Only a death before listening is a failure to boot: a worker that dies at work is replaced at once, always. */
  #onUnexpectedExit(handle: WorkerHandle): void {
    if (this.#stopping) return;
    const { pid, state, reason } = handle;
    if (state === 'listening') {
      this.#log.warn(`worker ${pid} died (${reason}) and is replaced`);
      this.#vacancies.push('died');
      this.#observer.announce('died', pid);
      return;
    }
    this.#failures += 1;
    this.#retryAt = performance.now() + this.#backoff.next();
    this.#log.error(`worker ${pid} died before it listened (${reason})`);
    if (this.#reloading && handle.generation === this.#generation) {
      this.#abortReload();
    } else if (this.#failures >= maxBootFailures && !this.#anyListens()) {
      this.#giveUp(`${this.#failures} workers in a row died before they listened, the last one: ${reason}`);
    }
  }

  #abortReload(): void {
    this.#log.error('reload aborted: the old workers go on');
    for (const handle of this.#workers) {
      if (handle.generation === this.#generation) handle.recycle = true; // the next reload has the same number
    }
    this.#generation -= 1;
    this.#forgetFailures();
    this.#endReload();
  }

  #endReload(): void {
    this.#reloading = false;
    if (!this.#reloadAgain) return;
    this.#reloadAgain = false;
    this.reload();
  }

  #forgetFailures(): void {
    this.#failures = 0;
    this.#backoff.reset();
  }

  #anyListens(): boolean {
    return [...this.#workers].some(({ state }) => state === 'listening');
  }

  #killOverdue(handle: WorkerHandle): void {
    handle.kill();
    // One that has closed its channel has finished.
    if (handle.state !== 'stopping' || handle.disconnected) return;
    this.#log.error(`worker ${handle.pid} ${handle.reason} and is killed`);
    if (this.#stopping) this.#forced = true;
  }

  #onLastExit(): void {
    clearTimeout(this.#timer);
    if (this.#fatal) this.#log.fatal(`giving up: ${this.#fatal}`);
    this.#resolveDone(this.#fatal || this.#forced ? 1 : 0);
  }
}

const countWorkers = (n: number) => (n === 1 ? '1 worker' : `${n} workers`);
