/** What a worker tells its primary. */
export type FromWorker =
  | { type: 'listening' } // it accepts connections
  | { type: 'beat' } // its event loop turns
  | { type: 'worn' } // it has served its number of requests
  | { type: 'failed'; reason: string }; // it cannot start

/** What a primary tells a worker: finish what you have begun, a successor is there. */
export type FromPrimary = { type: 'retire' };
