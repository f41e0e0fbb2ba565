/** Where the count and the ids are kept. */
export interface Store {
  /**
   * Gives each id its number: a new id the next one, an id seen within the deduplication window its first one. All ids
   * in one atomic step, in their order. The ids of one call differ.
   *
   * `deadline`, in milliseconds since the epoch by this machine's clock: after it nothing is counted. Otherwise a
   * command delayed by a hung store would count visits whose clients already have a 503.
   */
  allocate(ids: string[], deadline: number): Promise<number[]>;
  /** Rejects if an allocation would fail now. Tries all that an allocation does, and counts nothing. */
  ready(): Promise<void>;
  /** Ends the connection; to be called when nothing is under way. */
  close(): Promise<void>;
}
