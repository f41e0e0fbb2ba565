// throng has no types of its own.
declare module 'throng' {
  interface Options {
    /** Number of times that `cluster.fork()` is called at the start. */
    count: number;
    /** Milliseconds from a signal until throng ends the primary. */
    grace: number;
    /** Called once, in the primary, before the first fork. */
    master: () => void | Promise<void>;
    /** Called in each worker. */
    worker: (id: number, disconnect: () => void) => void | Promise<void>;
  }
  export default function throng(options: Options): Promise<void>;
}
