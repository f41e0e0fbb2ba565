/** How much of a worker the dashboard may take, however many ask: the rest is the service's. */

/** Milliseconds of computing in a row that are free, and the share of the time that is used beyond. */
const burst = 200;
const share = 0.2;
const costOfRequest = 2; // milliseconds, with what nginx and the connection cost: a hundred requests a second
const maxWaiting = 100;
const maxWait = 3_000; // milliseconds: nginx gives up after 5 s
const refusalDelay = 1_000; // milliseconds: who asks again at once is kept from it

/** Koa answers it by its `status` and `headers`. One, since each error is logged once. */
const busy = Object.assign(new Error('too many figures are asked for now; please try again'), {
  status: 503,
  expose: true,
  headers: { 'Retry-After': '2' },
});

/** Lets those through for whom `take` says so, in the order in which they came. */
class Queue {
  readonly #waiting: (() => void)[] = [];
  readonly #take: () => boolean;

  constructor(take: () => boolean) {
    this.#take = take;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** @throws what is answered 503, after a while, if too many wait or it takes too long. */
  async wait(): Promise<void> {
    if (this.length === 0 && this.#take()) return;
    if (this.length >= maxWaiting) {
      await new Promise((resolve) => setTimeout(resolve, refusalDelay));
      throw busy;
    }
    await new Promise<void>((resolve, reject) => {
      const enter = () => {
        clearTimeout(timer);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(busy);
      }, maxWait);
      this.#waiting.push(enter);
    });
  }

  /** To be called when `take` may say something else. */
  next(): void {
    while (this.length > 0 && this.#take()) this.#waiting.shift()?.();
  }
}

/** Lets so many through at a time. */
export class Slots {
  #free: number;
  readonly #queue = new Queue(() => this.#free > 0 && this.#free-- > 0);

  constructor(count: number) {
    this.#free = count;
  }

  async run<Result>(work: () => Promise<Result>): Promise<Result> {
    await this.#queue.wait();
    try {
      return await work();
    } finally {
      this.#free += 1;
      this.#queue.next();
    }
  }
}

/** Time to compute: it comes back slowly. */
export class Budget {
  #left = burst;
  #at = performance.now();
  #timer: NodeJS.Timeout | undefined;
  readonly #queue = new Queue(() => this.#take());

  async wait(): Promise<void> {
    const turn = this.#queue.wait();
    this.#lookAgain();
    await turn;
  }

  /** Takes what the work takes, until it waits for something. */
  spend<Result>(work: () => Result): Result {
    const begin = performance.now();
    try {
      return work();
    } finally {
      this.#left -= performance.now() - begin;
    }
  }

  #take(): boolean {
    const now = performance.now();
    this.#left = Math.min(burst, this.#left + (now - this.#at) * share);
    this.#at = now;
    if (this.#left <= 0) return false;
    this.#left -= costOfRequest;
    return true;
  }

  #lookAgain(): void {
    if (this.#queue.length === 0) return;
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        this.#queue.next();
        this.#lookAgain();
      },
      Math.max(1, -this.#left / share),
    );
  }
}
