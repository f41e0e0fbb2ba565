/** What the load of a test has asked and got, in a form that the app's own judge (judgement.ts) understands. */

/** One request and what became of it. `begin` and `end` are milliseconds of one clock that never goes back. */
export interface Exchange {
  begin: number;
  end: number;
  /** Absent: there was no complete answer, and nobody knows whether the request took effect. */
  status?: number;
  body?: string;
  /** Why there was no answer. */
  error?: string;
}

export interface Verdict {
  /** One line for each thing that is wrong; empty: every answer was right. */
  wrong: string[];
  /** Requests that took effect although no answer 200 said so; never more than there are without an answer. */
  unacknowledged: number;
}
