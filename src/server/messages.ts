import type { WorkerEvent } from '../app/service.ts';
import type { Snapshot } from './metrics.ts';

/** What a worker tells its primary. */
export type FromWorker =
  | { type: 'listening' } // it accepts connections
  | { type: 'heartbeat'; metrics?: Snapshot } // its event loop turns
  | { type: 'recycle' } // it has served its number of requests
  | { type: 'metrics'; call: number } // it is asked for the numbers of all
  | { type: 'boot-failed'; reason: string };

/** What a primary tells a worker. */
export type FromPrimary =
  | { type: 'retire' } // finish what you have begun, a successor listens
  | { type: 'worker-events'; events: WorkerEvent[] }
  | { type: 'metrics'; call: number; text: string };

/** Why a worker was started. */
export type StartReason = 'start' | 'reload' | 'recycled' | 'died';
