// throng has no types of its own.
declare module 'throng' {
  interface Options {
    /** Number of times that `cluster.fork()` is called at the start. */
    count: number;
    /** Milliseconds after the start during which a worker that has died is replaced; 0: never. */
    lifetime: number;
    /** On these signals it sends the same to every worker, and ends the primary 5 s later. */
    signals: string[];
    /** Called once, in the primary, before the first fork. */
    master: () => void | Promise<void>;
    /** Called in each worker. */
    worker: (id: number, disconnect: () => void) => void | Promise<void>;
  }
  export default function throng(options: Options): Promise<void>;
}
