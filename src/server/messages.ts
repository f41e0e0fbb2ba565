/** What a worker tells its primary. */
export type FromWorker =
  | { type: 'listening' } // it accepts connections
  | { type: 'heartbeat' } // its event loop turns
  | { type: 'recycle' } // it has served its number of requests
  | { type: 'boot-failed'; reason: string };

/** What a primary tells a worker: finish what you have begun, a successor listens. */
export type FromPrimary = { type: 'retire' };
