/**
 * What Gunicorn's arbiter does, on throng: keep the number of workers, replace them without a gap, and give up
 * loudly when none can start. throng forks by `cluster.fork()`, at the start and for each worker that has left;
 * here that call only asks for a look at the whole, so that the number is right however events are lost or doubled.
 */
import cluster, { type Worker } from 'node:cluster';
import type { Config } from './config.ts';
import type { Log } from './log.ts';
import type { FromPrimary, FromWorker } from './messages.ts';
import type { ListeningSocket } from './socket.ts';

export interface Supervisor {
  /** Replaces all workers by ones that run the code now on disk; if one of those cannot start, keeps the old ones. */
  reload(): void;
  /** One worker more or less, but never none. */
  scale(by: 1 | -1): void;
  /** Lets every worker finish what it has begun; kills those that take longer than gracefulTimeout. */
  stop(): void;
  /** Resolves when all workers listen for the first time. */
  serving: Promise<void>;
  /** Resolves to the exit code when no worker is left: 0 if each could finish what it had begun. */
  done: Promise<number>;
}

interface Member {
  worker: Worker;
  listening: boolean;
  /** When it was forked or, once it listens, gave its last sign of life: milliseconds on a monotonic clock. */
  lastSign: number;
  /** Why it is to leave as soon as enough others listen. */
  outdated?: 'reload' | 'worn';
  /** Forked by the reload that is under way. */
  candidate: boolean;
  /** Has been told to leave. */
  leaving: boolean;
  /** Kills it when its time to leave is over. */
  deadline?: NodeJS.Timeout;
  /** Why it could not start. */
  reason?: string;
}

// Only a death before listening is a failure to start: a worker that dies at work is replaced at once, always.
const mostFailures = 6; // in a row, while no worker listens
const firstPause = 100; // milliseconds before the next try, doubled by each failure
const longestPause = 5_000;
const startTimeout = 30_000; // milliseconds from fork to listening
const linger = 500; // milliseconds that a process may outlive its channel: an attached debugger holds it for ever

/** Supervises the workers that throng asks for, all of them on one socket; `greet` is called with each new one. */
export function superviseWorkers(
  config: Config,
  log: Log,
  socket: ListeningSocket,
  greet: (worker: Worker) => void,
): Supervisor {
  const members = new Set<Member>(); // the oldest first
  let wanted = config.workers;
  let failures = 0;
  let pause: NodeJS.Timeout | undefined;
  let reloading = false;
  let reloadAgain = false;
  let stopping = false;
  let forced = false;
  let defeat: string | undefined;
  let ended = false;

  let announce!: () => void;
  const serving = new Promise<void>((resolve) => {
    announce = resolve;
  });
  let finish!: (code: number) => void;
  const done = new Promise<number>((resolve) => {
    finish = resolve;
  });

  const fork = cluster.fork.bind(cluster);
  cluster.fork = balance as unknown as typeof cluster.fork;
  cluster.setupPrimary({ stdio: socket.stdio });

  // After the poll phase, which reads the heartbeats that are waiting: a primary that was paused judges nobody.
  const watch = setInterval(
    () => setImmediate(killSilent),
    Math.min(1_000, config.workerTimeout / 10 || 1_000),
  );

  /** Forks what is missing and retires what is too much: successors first. */
  function balance(): void {
    if (stopping) return;
    const staying = [...members].filter((member) => !member.outdated && !member.leaving);
    const listening = staying.filter((member) => member.listening);
    if (listening.length >= wanted) {
      announce();
      const outdated = [...members].filter((member) => member.outdated && !member.leaving);
      for (const member of [...outdated, ...listening.slice(0, listening.length - wanted)]) retire(member);
      if (reloading) {
        log.info(`reloaded: ${wanted} workers run the new code`);
        endReload();
      }
    }
    const missing = wanted - staying.length;
    if (failures === 0) {
      for (let i = 0; i < missing; i++) add();
    } else if (missing > 0 && !pause && staying.length === listening.length) {
      // One try at a time, until one succeeds.
      pause = setTimeout(
        () => {
          pause = undefined;
          if (!stopping) add();
        },
        Math.min(firstPause * 2 ** (failures - 1), longestPause),
      );
    }
  }

  function add(): void {
    const worker = fork();
    const member: Member = {
      worker,
      listening: false,
      lastSign: performance.now(),
      candidate: reloading,
      leaving: false,
    };
    members.add(member);
    greet(worker);
    worker.on('message', (message: FromWorker) => {
      if (message.type === 'heartbeat') member.lastSign = performance.now();
      if (message.type === 'boot-failed') member.reason = message.reason;
      if (message.type === 'listening') welcome(member);
      if (message.type === 'recycle') {
        log.info(`worker ${worker.process.pid} has served its number of requests`);
        member.outdated ??= 'worn';
        balance();
      }
    });
    worker.on('error', (error) =>
      log.error({ err: error }, `worker ${worker.process.pid} cannot be reached`),
    );
    worker.on('disconnect', () => {
      setTimeout(() => worker.process.kill('SIGKILL'), linger).unref();
    });
    worker.on('exit', (code, signal) => {
      members.delete(member);
      clearTimeout(member.deadline);
      if (!member.leaving)
        mourn(member, member.reason ?? (signal ? `killed by ${signal}` : `exit code ${code}`));
      if (stopping && members.size === 0) end();
      balance();
    });
  }

  function welcome(member: Member): void {
    member.listening = true;
    member.lastSign = performance.now();
    failures = 0;
    try {
      socket.publish();
    } catch (error) {
      giveUp(String(error));
    }
    balance();
  }

  /** Takes note of a death that nobody asked for. */
  function mourn(member: Member, reason: string): void {
    const { pid } = member.worker.process;
    if (member.listening) {
      log.warn(`worker ${pid} died (${reason}) and is replaced`);
      return;
    }
    failures += 1;
    log.error(`worker ${pid} died before it listened (${reason})`);
    if (member.candidate) {
      log.error('reload aborted: the old workers go on');
      for (const other of members) {
        if (other.candidate) retire(other);
        else if (other.outdated === 'reload') delete other.outdated;
      }
      failures = 0;
      endReload();
    } else if (failures >= mostFailures && ![...members].some((other) => other.listening)) {
      giveUp(`${failures} workers in a row died before they listened, the last one: ${reason}`);
    }
  }

  function endReload(): void {
    reloading = false;
    for (const member of members) member.candidate = false;
    if (!reloadAgain) return;
    reloadAgain = false;
    reload();
  }

  function retire(member: Member): void {
    dismiss(member, () => {
      member.worker.send({ type: 'retire' } satisfies FromPrimary, () => {}); // it may be dying: its exit is noticed
    });
  }

  /** Asks a worker to leave and sees to it that it does; one that does not listen yet has nothing to finish. */
  function dismiss(member: Member, ask: () => void): void {
    if (member.leaving) return;
    member.leaving = true;
    const { process } = member.worker;
    if (!member.listening) {
      process.kill('SIGKILL');
      return;
    }
    ask();
    member.deadline = setTimeout(() => {
      log.error(
        `worker ${process.pid} did not finish within ${config.gracefulTimeout / 1000} s and is killed`,
      );
      forced = true;
      process.kill('SIGKILL');
    }, config.gracefulTimeout);
  }

  function killSilent(): void {
    for (const member of members) {
      const limit = member.listening ? config.workerTimeout : startTimeout;
      if (member.leaving || limit === 0 || performance.now() - member.lastSign <= limit) continue;
      member.reason = `silent for ${limit / 1000} s`;
      member.worker.process.kill('SIGKILL');
    }
  }

  function giveUp(reason: string): void {
    defeat = reason;
    stop();
  }

  function reload(): void {
    if (stopping) return;
    if (reloading) {
      reloadAgain = true; // what is on disk now may be newer than what the candidates have read
      return;
    }
    reloading = true;
    for (const member of members) member.outdated ??= 'reload';
    balance();
  }

  function scale(by: 1 | -1): void {
    wanted = Math.max(1, wanted + by);
    log.info(`${wanted} workers wanted`);
    balance();
  }

  function stop(): void {
    if (stopping) return;
    stopping = true;
    forced = false;
    clearTimeout(pause);
    socket.close();
    for (const member of members) {
      // One that is on its way out already has its deadline.
      dismiss(member, () => member.worker.process.kill('SIGTERM'));
    }
    if (members.size === 0) end();
  }

  function end(): void {
    if (ended) return; // the death of the last worker may be both the defeat and the end
    ended = true;
    clearInterval(watch);
    if (defeat) log.fatal(`giving up: ${defeat}`);
    finish(defeat || forced ? 1 : 0);
  }

  return { reload, scale, stop, serving, done };
}
