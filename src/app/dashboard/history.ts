/** Where the plots' past is kept: in Redis (redis-history.ts), or without it in the primary (memory-history.ts). */

/** Milliseconds that entries are kept: what each worker told each second, and the count at the start of each hour. */
export const keep = { seconds: 15 * 60_000, hours: 32 * 24 * 3_600_000 };
export type LogName = keyof typeof keep;

export interface Entry {
  /** `MILLISECONDS-NUMBER`: ascending. */
  id: string;
  text: string;
}

/** Two logs, and the count. Every worker sees the same. Calls reject while Redis is away. */
export interface History {
  /** Visits so far. */
  count(): Promise<number>;
  /** Adds an entry now or `at` a time in milliseconds; then only if the log has none as late as that. */
  append(log: LogName, text: string, at?: number): Promise<void>;
  /** The entries after this id; all of them after `0`. */
  after(log: LogName, id: string): Promise<Entry[]>;
}
