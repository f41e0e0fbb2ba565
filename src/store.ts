/** Where the count and the ids are kept. */
export interface Store {
  /**
   * Gives each id its number: a new id the next one, an id seen within the retry window its first one.
   * All ids in one atomic step, in their order. The ids of one call differ.
   *
   * After `deadline` (as Date.now() counts) nothing is done any more: a command that lay in a frozen store must
   * not count visits that were refused meanwhile.
   */
  commit(ids: string[], deadline: number): Promise<number[]>;
  /** Rejects if a commit would not succeed now. */
  ping(): Promise<void>;
  /** Ends the connection; to be called when nothing is under way. */
  close(): Promise<void>;
}

/** Milliseconds for which a store remembers an id: more than nginx and the app together take for all tries. */
export const retryWindow = 30_000;
