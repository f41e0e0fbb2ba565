import type { Plots } from '../plots.ts';

/** The count as it was at a time. Milliseconds since the epoch. */
export interface Note {
  at: number;
  count: number;
}

/** Milliseconds. */
export const notesKept = 32 * 24 * 3_600_000;

/** Where the count and the ids are kept. */
export interface Store {
  /**
   * Gives each id a number: a new id gets the next one, an id seen within the deduplication window gets its first one.
   * All ids in one atomic step, in their order. The ids of one call must differ; each is 32 hexadecimal digits.
   *
   * `deadline`, in milliseconds since the epoch by this machine's clock: after it nothing is counted. Otherwise a
   * command delayed by a hung store would count visits whose clients already have a 503.
   */
  allocate(ids: string[], deadline: number): Promise<number[]>;
  /** Rejects if an allocation would fail now: does all that an allocation does, for no ids. */
  ready(): Promise<void>;
  /** Visits so far. */
  count(): Promise<number>;
  /** Writes down what the count was at this time, unless there is a note as late as that. */
  note(at: number, count: number): Promise<void>;
  /** The notes of the last 32 days, the oldest first. */
  notes(): Promise<Note[]>;
  /** Where the dashboard may keep what it shows. */
  redis?: Plots['redis'];
  /** Closes the connection. To be called when nothing is under way. */
  close(): Promise<void>;
}
