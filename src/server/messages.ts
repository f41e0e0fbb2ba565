import type { WorkerEvent } from '../contract.ts';
import type { Snapshot } from './worker-metrics.ts';

/** What a worker sends to its primary. */
export type FromWorker =
  | { type: 'listening' } // it accepts connections
  | { type: 'heartbeat'; metrics?: Snapshot } // its event loop turns
  | { type: 'recycle' } // it has served its number of requests
  | { type: 'boot-failed'; reason: string };

/** What a primary sends to a worker. */
export type FromPrimary =
  | { type: 'retire' } // finish what you have begun, a successor listens
  | { type: 'worker-events'; events: WorkerEvent[] };

/** Why a worker was started. */
export type StartReason = 'start' | 'reload' | 'recycled' | 'died';
