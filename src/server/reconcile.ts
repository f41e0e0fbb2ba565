/** The supervisor's decision, apart from its execution. Nothing here has an effect or reads a clock. */

/** What matters of a worker when it is decided what to do next. */
export interface WorkerStatus {
  /** `stopping`: it has its signal to stop. */
  readonly state: 'booting' | 'listening' | 'stopping';
  /** Which reload it belongs to: each reload counts one up. */
  readonly generation: number;
  /** It is to be replaced although its generation may be the current one. */
  readonly recycle: boolean;
  /** Milliseconds on the monotonic clock; a worker that has not been heard of by then is killed. */
  readonly deadline: number;
  /** It has been sent SIGKILL and has not exited yet. */
  readonly killed: boolean;
  /** Its channel has closed: it is about to exit. */
  readonly disconnected: boolean;
}

export interface Situation<W extends WorkerStatus> {
  /** Milliseconds on the monotonic clock. */
  now: number;
  /** The oldest first. */
  workers: readonly W[];
  /** How many workers are wanted, and of which generation. */
  wanted: number;
  generation: number;
  /** Workers that died at boot since one last listened, and when the next may be spawned. */
  failures: number;
  retryAt: number;
  /** The whole service stops. */
  stopping: boolean;
}

export type Action<W> =
  | { type: 'kill' | 'retire' | 'terminate'; worker: W }
  | { type: 'spawn' }
  | { type: 'settled' } // enough workers of the current generation listen
  | { type: 'exit' }; // no worker is left

/** Returns what is to be done now, in this order. */
export function reconcile<W extends WorkerStatus>(situation: Situation<W>): Action<W>[] {
  const { workers, stopping } = situation;
  const kills = workers.filter((worker) => isOverdue(worker, situation.now)).map(act('kill'));
  if (!stopping) return [...kills, ...replace(situation), ...spawn(situation)];
  if (workers.length === 0) return [{ type: 'exit' }];
  return [...kills, ...workers.filter(isRunning).map(act('terminate'))];
}

/** Returns when to look again if nothing happens until then: milliseconds on the monotonic clock, or Infinity. */
export function nextLook({ now, workers, failures, retryAt, stopping }: Situation<WorkerStatus>): number {
  const deadlines = workers.filter(({ killed }) => !killed).map(({ deadline }) => deadline);
  const mayRetry = failures > 0 && retryAt > now && !stopping;
  return Math.min(...deadlines, ...(mayRetry ? [retryAt] : []));
}

/** Successors first: a worker that listens is retired only when as many others as wanted listen. */
function replace<W extends WorkerStatus>(situation: Situation<W>): Action<W>[] {
  const { now, workers, wanted } = situation;
  const running = workers.filter(isRunning);
  const current = currentOf(situation);
  const listening = current.filter((worker) => worker.state === 'listening' && isHealthy(worker, now));
  if (listening.length < wanted) {
    // Left over from an aborted reload: it has begun nothing that it could finish.
    return running.filter(({ state, recycle }) => state === 'booting' && recycle).map(act('retire'));
  }
  const surplus = listening.slice(0, listening.length - wanted);
  const superfluous = running.filter((worker) => !current.includes(worker) || surplus.includes(worker));
  return [...superfluous.map(act('retire')), { type: 'settled' }];
}

/** Spawns what is missing; after a failed boot one at a time, with a growing pause before each. */
function spawn<W extends WorkerStatus>(situation: Situation<W>): Action<W>[] {
  const current = currentOf(situation);
  const missing = Math.max(0, situation.wanted - current.length);
  if (situation.failures === 0) return Array.from({ length: missing }, () => ({ type: 'spawn' }));
  const tries = current.some(({ state }) => state === 'booting');
  return missing === 0 || tries || situation.now < situation.retryAt ? [] : [{ type: 'spawn' }];
}

/** Those that are to stay, unless they are too many. */
function currentOf<W extends WorkerStatus>({ workers, generation }: Situation<W>): W[] {
  return workers.filter((worker) => isRunning(worker) && worker.generation === generation && !worker.recycle);
}

const isRunning = ({ state }: WorkerStatus) => state !== 'stopping';
const isHealthy = (worker: WorkerStatus, now: number) =>
  !worker.killed && !worker.disconnected && worker.deadline > now;
const isOverdue = ({ killed, deadline }: WorkerStatus, now: number) => !killed && deadline <= now;

function act(type: 'kill' | 'retire' | 'terminate'): <W>(worker: W) => Action<W> {
  return (worker) => ({ type, worker });
}
