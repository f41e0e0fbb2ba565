import type { ChildProcess } from 'node:child_process';
import type { Worker } from 'node:cluster';
import { EventEmitter } from 'node:events';
import type { FromPrimary, FromWorker } from './messages.ts';
import type { WorkerStatus } from './reconcile.ts';

/** What is used of a worker of node:cluster. */
export type Child = Pick<Worker, 'on' | 'send'> & { readonly process: Pick<ChildProcess, 'pid' | 'kill'> };

/** Milliseconds, each until a worker is killed. */
export interface Timeouts {
  /** From its fork until it listens. */
  boot: number;
  /** From one heartbeat to the next; 0: for ever. */
  heartbeat: number;
  /** From its signal to stop until its exit. */
  graceful: number;
  /** From the end of its channel until its exit: an attached debugger holds a process for ever. */
  orphan: number;
}

interface Events {
  /** It accepts connections. */
  listening: [];
  /** It has served its number of requests and wants to be replaced. */
  recycle: [];
  /** Its channel has closed: it is about to exit. */
  disconnect: [];
  /** A message or a signal could not be sent. */
  unreachable: [error: Error];
  /** It has ended; see `reason`. Its state is still the one in which it ended. */
  exit: [];
}

/** A worker as the primary sees it: its state, how long it is waited for, and the ways to make it stop. */
export class WorkerHandle extends EventEmitter<Events> implements WorkerStatus {
  state: WorkerStatus['state'] = 'booting';
  recycle = false;
  killed = false;
  disconnected = false;
  deadline = Number.POSITIVE_INFINITY;
  /** Why it was killed, could not boot, or exited. */
  reason: string | undefined;
  readonly generation: number;
  readonly #worker: Child;
  readonly #timeouts: Timeouts;
  /** What is to be said of it if it misses its deadline. */
  #fault = '';
  #exited = false;

  constructor(worker: Child, generation: number, timeouts: Timeouts) {
    super();
    this.#worker = worker;
    this.generation = generation;
    this.#timeouts = timeouts;
    this.#expectWithin(timeouts.boot, `did not listen within ${seconds(timeouts.boot)}`);
    worker.on('message', (message: FromWorker) => this.#onMessage(message));
    worker.on('error', (error) => this.#onError(error));
    worker.on('disconnect', () => this.#onDisconnect());
    worker.on('exit', (code, signal) => this.#onExit(signal ? `killed by ${signal}` : `exit code ${code}`));
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  /** A successor listens: it is to finish what it has begun. */
  retire(): void {
    // It may be dying: then this cannot be sent, and its exit is noticed.
    this.#stop(() => this.#worker.send({ type: 'retire' } satisfies FromPrimary, () => {}));
  }

  /** The whole service stops: it is to finish what it has begun. */
  terminate(): void {
    this.#stop(() => this.#worker.process.kill('SIGTERM'));
  }

  kill(): void {
    if (this.killed) return;
    this.killed = true;
    this.reason ??= this.#fault;
    this.#worker.process.kill('SIGKILL');
  }

  #stop(ask: () => void): void {
    if (this.state === 'stopping') return;
    const { state } = this;
    this.state = 'stopping';
    if (state === 'booting') {
      this.kill(); // it has begun nothing
      return;
    }
    this.#expectWithin(this.#timeouts.graceful, `did not finish within ${seconds(this.#timeouts.graceful)}`);
    ask();
  }

  #onMessage(message: FromWorker): void {
    if (message.type === 'boot-failed') this.reason = message.reason;
    if (message.type === 'heartbeat') this.#onHeartbeat();
    if (message.type === 'listening' && this.state === 'booting') {
      this.state = 'listening';
      this.#onHeartbeat();
      this.emit('listening');
    }
    if (message.type === 'recycle') {
      this.recycle = true;
      this.emit('recycle');
    }
  }

  #onHeartbeat(): void {
    if (this.state !== 'listening' || this.disconnected) return; // nothing prolongs these deadlines
    const { heartbeat } = this.#timeouts;
    this.#expectWithin(heartbeat || Number.POSITIVE_INFINITY, `silent for ${seconds(heartbeat)}`);
  }

  #onError(error: Error): void {
    if (this.pid === undefined) {
      this.#onExit(error.message); // the system could not fork: no exit follows
    } else {
      this.emit('unreachable', error);
    }
  }

  #onDisconnect(): void {
    this.disconnected = true;
    const { orphan } = this.#timeouts;
    if (performance.now() + orphan < this.deadline)
      this.#expectWithin(orphan, 'closed its channel and went on');
    this.emit('disconnect');
  }

  #onExit(reason: string): void {
    if (this.#exited) return;
    this.#exited = true;
    this.reason ??= reason;
    this.emit('exit');
  }

  #expectWithin(milliseconds: number, fault: string): void {
    this.deadline = performance.now() + milliseconds;
    this.#fault = fault;
  }
}

const seconds = (milliseconds: number) => `${milliseconds / 1000} s`;
