import { EventEmitter } from 'node:events';
import type { FromPrimary, FromWorker } from '../../src/server/messages.ts';

export type Phase = 'booting' | 'listening' | 'draining' | 'dead';

/** A process that a test controls; SIGKILL always ends it. */
export class FakeWorker extends EventEmitter {
  phase: Phase = 'booting';
  /** Its event loop stands still: it sends nothing and hears nothing. */
  hung = false;
  /** Its channel to the primary is open. */
  connected = true;
  /** What it has received, in order. */
  readonly received: string[] = [];
  readonly process: { pid: number | undefined; kill: (signal: NodeJS.Signals) => boolean };
  /** Called for each signal and each message, before it has an effect. */
  onTold: (what: string) => void = () => {};

  constructor(pid: number | undefined) {
    super();
    this.process = { pid, kill: (signal) => this.#onSignal(signal) };
  }

  send(message: FromPrimary, done: (error: Error | null) => void): boolean {
    this.#onTold(message.type);
    done(this.connected ? null : new Error('channel closed'));
    return this.connected;
  }

  say(message: FromWorker): void {
    if (this.connected && !this.hung) this.emit('message', message);
  }

  listen(): void {
    if (this.phase !== 'booting' || this.hung) return;
    this.phase = 'listening';
    this.say({ type: 'listening' });
  }

  disconnect(): void {
    if (!this.connected) return;
    this.connected = false;
    this.emit('disconnect');
  }

  die(code: number | null, signal: NodeJS.Signals | null = null): void {
    if (this.phase === 'dead') return;
    this.phase = 'dead';
    this.disconnect();
    this.emit('exit', code, signal);
  }

  #onSignal(signal: NodeJS.Signals): boolean {
    this.#onTold(signal);
    return true;
  }

  #onTold(what: string): void {
    this.onTold(what);
    this.received.push(what);
    if (what === 'SIGKILL') setImmediate(() => this.die(null, 'SIGKILL'));
    else if (this.phase === 'listening') this.phase = 'draining';
  }
}

/** Stands for node:cluster in a primary; `fork` is what throng calls, too. */
export class FakeCluster extends EventEmitter {
  /** All that were ever forked, the oldest first. */
  readonly workers: FakeWorker[] = [];
  /** The system cannot fork: each worker is an error at once, and has no process id. */
  exhausted = false;
  onFork: (worker: FakeWorker) => void = () => {};

  setupPrimary(): void {}

  fork = (): FakeWorker => {
    const worker = new FakeWorker(this.exhausted ? undefined : 1_000 + this.workers.length);
    this.workers.push(worker);
    this.onFork(worker);
    if (this.exhausted) {
      process.nextTick(() => {
        worker.phase = 'dead';
        worker.emit('error', new Error('spawn EAGAIN'));
      });
    }
    process.nextTick(() => this.emit('fork', worker));
    return worker;
  };

  alive(...phases: Phase[]): FakeWorker[] {
    const any: Phase[] = phases.length > 0 ? phases : ['booting', 'listening', 'draining'];
    return this.workers.filter(({ phase }) => any.includes(phase));
  }
}
