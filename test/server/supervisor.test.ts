import type { Worker } from 'node:cluster';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import type { ListeningSocket } from '../../src/server/socket.ts';
import { bootTimeout, maxBootFailures, Supervisor } from '../../src/server/supervisor.ts';
import { FakeCluster, type FakeWorker } from './fake-workers.ts';

const realNow = performance.now;
let suspended = 0; // milliseconds that have passed without a timer: the machine was asleep

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate'] });
  suspended = 0;
  const { now } = performance;
  performance.now = () => now.call(performance) + suspended;
});
afterEach(() => {
  jest.useRealTimers();
  performance.now = realNow;
});

const observer = { countStart() {}, announce() {} };

const turn = () => new Promise<void>((resume) => setImmediate(resume));

/** A supervisor over fake workers. It is started, and throng has forked the first workers. */
async function start(settings: { workers?: number; workerTimeout?: number; gracefulTimeout?: number } = {}) {
  const config = { workers: 2, workerTimeout: 4_000, gracefulTimeout: 3_000, ...settings };
  const cluster = new FakeCluster();
  const lines: string[] = [];
  const write = (level: string) => (first: unknown, second?: unknown) => {
    lines.push(`${level}: ${second ?? first}`);
  };
  const log = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    fatal: write('fatal'),
  };
  const socket = {
    address: 'here',
    stdio: [],
    publish: jest.fn<() => void>(),
    isLost: async () => false,
    close: jest.fn<() => void>(),
  } satisfies ListeningSocket;
  const adopted: Worker[] = [];
  const supervisor = new Supervisor(config, log, {
    onFork: (worker) => adopted.push(worker),
    observer,
    cluster: cluster as never,
  });
  const world = {
    config,
    cluster,
    lines,
    socket,
    adopted,
    supervisor,
    exitCode: -1,
    serving: false,
    settle,
    pass,
  };
  supervisor.done.then((code) => {
    world.exitCode = code;
  });
  supervisor.serving.then(() => {
    world.serving = true;
  });

  /** Lets the supervisor react to what has happened. */
  async function settle(): Promise<void> {
    for (let turns = 0; turns < 4; turns++) await turn();
  }

  /** Lets time pass; workers that do not hang send their heartbeats. */
  async function pass(milliseconds: number): Promise<void> {
    for (let left = milliseconds; left > 0; left -= 1_000) {
      for (const worker of cluster.alive('listening')) worker.say({ type: 'heartbeat' });
      jest.advanceTimersByTime(Math.min(left, 1_000));
      await settle();
    }
  }

  supervisor.start(socket);
  for (let i = 0; i < config.workers; i++) cluster.fork();
  await settle();
  return world;
}

/** The same, when all workers listen. */
async function serve(settings: Parameters<typeof start>[0] = {}) {
  const world = await start(settings);
  for (const worker of world.cluster.workers) worker.listen();
  await world.settle();
  return world;
}

const received = (...workers: (FakeWorker | undefined)[]) => workers.map((worker) => worker?.received);

test.each([5, 15, 30, 45, 60, 75, 95])(
  'a pause that ends during the look which would wait for it does not end the tries: %d ms a step',
  async (step) => {
    const world = await start({ workers: 1 });
    const { now } = performance;
    performance.now = () => {
      suspended += step; // milliseconds between any two lines: the machine is busy
      return now.call(performance);
    };
    for (let dead = 1; dead < maxBootFailures; dead++) {
      world.cluster.workers.at(-1)?.die(1);
      await world.settle();
      await world.pass(5_000);
      expect(world.cluster.workers).toHaveLength(dead + 1);
    }
  },
);

test('the workers that throng forks are adopted, and none is forked besides', async () => {
  const world = await start({ workers: 3 });
  const { cluster, adopted, socket } = world;
  expect(adopted).toEqual(cluster.workers);
  expect(cluster.workers).toHaveLength(3);
  for (const worker of cluster.workers.slice(0, 2)) worker.listen();
  await world.settle();
  expect(socket.publish).toHaveBeenCalled();
  expect(cluster.workers).toHaveLength(3);
});

test('it serves when all listen', async () => {
  const world = await start();
  world.cluster.workers[0]?.listen();
  await world.settle();
  expect(world.serving).toBe(false);
  world.cluster.workers[1]?.listen();
  await world.settle();
  expect(world.serving).toBe(true);
});

test('signals that come before the socket is open are neither lost nor do they fork', async () => {
  const cluster = new FakeCluster();
  const log = { debug() {}, info() {}, warn() {}, error() {}, fatal() {} };
  const config = { workers: 2, workerTimeout: 0, gracefulTimeout: 1_000 };
  const supervisor = new Supervisor(config, log, { onFork() {}, observer, cluster: cluster as never });
  supervisor.reload();
  supervisor.scale(1);
  await turn();
  expect(cluster.workers).toHaveLength(0);
  supervisor.stop();
  expect(await supervisor.done).toBe(0);
});

describe('a death', () => {
  test('at work: it is replaced at once, every time', async () => {
    const world = await serve();
    const { cluster } = world;
    for (let deaths = 1; deaths <= 20; deaths++) {
      cluster.alive('listening')[0]?.die(null, 'SIGKILL');
      await world.settle();
      expect(cluster.workers).toHaveLength(2 + deaths);
      for (const worker of cluster.alive('booting')) worker.listen();
      await world.settle();
    }
    expect(world.lines.filter((line) => /killed by SIGKILL\) and is replaced/.test(line))).toHaveLength(20);
  });

  test('at boot: one try at a time, each pause twice the one before, until the service gives up', async () => {
    const world = await start();
    const { cluster } = world;
    for (const worker of cluster.workers) worker.die(1);
    await world.settle();
    for (const pause of [200, 400, 800, 1_600]) {
      jest.advanceTimersByTime(pause - 1);
      await world.settle();
      expect(cluster.alive()).toEqual([]);
      jest.advanceTimersByTime(1);
      await world.settle();
      expect(cluster.alive()).toHaveLength(1);
      cluster.alive()[0]?.say({ type: 'boot-failed', reason: 'of no use' });
      cluster.alive()[0]?.die(1);
      await world.settle();
    }
    expect(cluster.workers).toHaveLength(maxBootFailures);
    expect(world.exitCode).toBe(1);
    expect(world.lines.at(-1)).toMatch(/^fatal: giving up: 6 workers in a row died.*: of no use$/);
  });

  test('at boot: as long as another worker listens, the service does not give up', async () => {
    const world = await serve();
    const { cluster } = world;
    cluster.workers[0]?.die(1);
    await world.settle();
    for (let deaths = 0; deaths < 20; deaths++) {
      cluster.alive('booting')[0]?.die(1);
      await world.pass(5_000); // the longest pause
      expect(cluster.alive('booting')).toHaveLength(1);
    }
    expect(world.exitCode).toBe(-1);
    cluster.alive('booting')[0]?.listen();
    cluster.workers[1]?.die(1);
    await world.settle();
    expect(cluster.alive('booting')).toHaveLength(1); // the failures are forgotten
  });

  test("of the system's making: a fork that fails is a failure to boot", async () => {
    const world = await serve();
    const { cluster } = world;
    cluster.exhausted = true;
    cluster.workers[0]?.die(1);
    await world.settle();
    expect(world.lines.at(-1)).toMatch(/died before it listened \(spawn EAGAIN\)/);
    cluster.exhausted = false;
    await world.pass(100);
    expect(cluster.alive('booting')).toHaveLength(1);
  });
});

describe('a reload', () => {
  test('retires the old workers when all new ones listen', async () => {
    const world = await serve();
    const { cluster } = world;
    const [a, b] = cluster.workers;
    world.supervisor.reload();
    await world.settle();
    expect(cluster.workers).toHaveLength(4);
    cluster.workers[2]?.listen();
    await world.settle();
    expect(received(a, b)).toEqual([[], []]);
    cluster.workers[3]?.listen();
    await world.settle();
    expect(received(a, b)).toEqual([['retire'], ['retire']]);
    expect(world.lines).toEqual(['info: reloaded: 2 workers on the new code']);
  });

  test('is aborted by a death at boot: the old workers stay, the new ones leave, and the next one works', async () => {
    const world = await serve();
    const { cluster } = world;
    for (let nth = 0; nth < 2; nth++) {
      world.supervisor.reload();
      await world.settle();
      const [c, d] = cluster.workers.slice(-2);
      c?.listen();
      await world.settle();
      d?.die(1);
      await world.settle();
      expect(received(...cluster.workers.slice(0, 2), c)).toEqual([[], [], ['retire']]);
      expect(world.lines.at(-1)).toMatch(/^error: reload aborted/);
      c?.die(0);
    }
    await world.pass(10_000);
    expect(cluster.workers).toHaveLength(6);
    world.supervisor.reload();
    await world.settle();
    for (const worker of cluster.alive('booting')) worker.listen();
    await world.settle();
    expect(world.lines.at(-1)).toMatch(/^info: reloaded/);
    expect(received(...cluster.workers.slice(0, 2))).toEqual([['retire'], ['retire']]);
  });

  test('that is aborted while an old worker is missing keeps the new one that listens until it is replaced', async () => {
    const world = await serve();
    const { cluster } = world;
    world.supervisor.reload();
    await world.settle();
    const [a, b, c, d] = cluster.workers;
    a?.die(1);
    c?.listen();
    d?.die(1);
    await world.settle();
    expect(received(b, c)).toEqual([[], []]);
    expect(cluster.alive('booting')).toHaveLength(1);
    cluster.alive('booting')[0]?.listen();
    await world.settle();
    expect(received(b, c)).toEqual([[], ['retire']]);
  });

  test('is not aborted by an old worker that dies at boot', async () => {
    const world = await start();
    const { cluster } = world;
    world.supervisor.reload();
    await world.settle();
    cluster.workers[0]?.die(1);
    await world.settle();
    for (const worker of cluster.alive('booting')) worker.listen();
    await world.settle();
    expect(world.lines).toEqual([
      expect.stringMatching(/^error: worker 1000 died before it listened/),
      expect.stringMatching(/^info: reloaded/),
    ]);
    expect(cluster.alive('listening')).toEqual(cluster.workers.slice(2));
  });

  test('that is asked for during another one follows it', async () => {
    const world = await serve();
    const { cluster } = world;
    world.supervisor.reload();
    await world.settle();
    world.supervisor.reload();
    world.supervisor.reload();
    for (const worker of cluster.alive('booting')) worker.listen();
    await world.settle();
    expect(cluster.workers).toHaveLength(6);
    for (const worker of cluster.alive('booting')) worker.listen();
    await world.settle();
    expect(cluster.workers).toHaveLength(6);
    expect(cluster.alive('listening')).toEqual(cluster.workers.slice(4));
  });
});

test('a worker that has served its number of requests leaves when its successor listens, also if a reload is aborted', async () => {
  const world = await serve();
  const { cluster } = world;
  const [a, b] = cluster.workers;
  world.supervisor.reload();
  await world.settle();
  a?.say({ type: 'recycle' });
  cluster.workers[3]?.die(1);
  await world.settle();
  expect(cluster.alive('booting')).toHaveLength(1);
  expect(received(a, b)).toEqual([[], []]);
  cluster.alive('booting')[0]?.listen();
  await world.settle();
  expect(received(a, b)).toEqual([['retire'], []]);
});

test('one worker more, one less, and never none', async () => {
  const world = await serve({ workers: 1 });
  const { cluster } = world;
  const { supervisor } = world;
  supervisor.scale(1);
  await world.settle();
  cluster.workers[1]?.listen();
  supervisor.scale(-1);
  supervisor.scale(-1);
  await world.settle();
  expect(received(...cluster.workers)).toEqual([['retire'], []]);
  expect(world.lines).toEqual(['info: 2 workers wanted', 'info: 1 worker wanted', 'info: 1 worker wanted']);
});

describe('a worker that is silent', () => {
  test('is killed after its timeout, to the millisecond, and replaced', async () => {
    const world = await serve();
    const { cluster } = world;
    const [a, b] = cluster.workers as [FakeWorker, FakeWorker];
    a.hung = true;
    await world.pass(3_999);
    expect(received(a, b)).toEqual([[], []]);
    await world.pass(1);
    expect(received(a, b)).toEqual([['SIGKILL'], []]);
    await world.settle();
    expect(world.lines).toEqual([expect.stringMatching(/^warn: .* died \(silent for 4 s\) and is replaced/)]);
    expect(cluster.alive('booting')).toHaveLength(1);
  });

  test('at boot is killed after its timeout, which is a failure to boot', async () => {
    const world = await start({ workers: 1 });
    const { cluster } = world;
    await world.pass(bootTimeout);
    await world.settle();
    expect(received(...cluster.workers.slice(0, 1))).toEqual([['SIGKILL']]);
    expect(world.lines).toEqual([
      expect.stringMatching(/^error: .*before it listened \(did not listen within/),
    ]);
  });

  test('is not blamed for the time that the primary was suspended', async () => {
    const world = await serve();
    const { cluster } = world;
    suspended += 60_000;
    world.supervisor.scale(1); // comes first of what has waited
    for (const worker of cluster.workers) worker.say({ type: 'heartbeat' });
    await world.settle();
    expect(received(...cluster.workers.slice(0, 2))).toEqual([[], []]);
    expect(cluster.workers).toHaveLength(3);
  });
});

describe('a stop', () => {
  test('closes the socket, asks those that listen once, kills those that boot, and ends with 0', async () => {
    const world = await serve();
    const { cluster, socket } = world;
    world.supervisor.reload();
    await world.settle();
    world.supervisor.stop();
    world.supervisor.stop();
    await world.settle();
    expect(socket.close).toHaveBeenCalledTimes(1);
    expect(received(...cluster.workers)).toEqual([['SIGTERM'], ['SIGTERM'], ['SIGKILL'], ['SIGKILL']]);
    for (const worker of cluster.alive()) worker.die(0);
    await world.settle();
    expect(world.exitCode).toBe(0);
    expect(world.lines).toEqual([]);
  });

  test('kills after the graceful timeout and ends with 1', async () => {
    const world = await serve();
    const { cluster } = world;
    world.supervisor.stop();
    await world.settle();
    cluster.workers[0]?.die(0);
    await world.pass(2_999);
    expect(world.exitCode).toBe(-1);
    await world.pass(1);
    await world.settle();
    expect(world.exitCode).toBe(1);
    expect(world.lines).toEqual(['error: worker 1001 did not finish within 3 s and is killed']);
  });

  test('does not wait for a debugger that holds a worker which has finished, nor blame it', async () => {
    const world = await serve({ workers: 1 });
    const { cluster } = world;
    world.supervisor.stop();
    await world.settle();
    cluster.workers[0]?.disconnect();
    await world.pass(500);
    await world.settle();
    expect(world.exitCode).toBe(0);
    expect(world.lines).toEqual([]);
  });

  test('that is forced by a socket which cannot be published ends with 1 and the reason', async () => {
    const world = await start({ workers: 1 });
    const { cluster, socket } = world;
    socket.publish.mockImplementation(() => {
      throw new Error('EACCES');
    });
    cluster.workers[0]?.listen();
    await world.settle();
    cluster.workers[0]?.die(0);
    await world.settle();
    expect(world.exitCode).toBe(1);
    expect(world.lines).toEqual(['fatal: giving up: Error: EACCES']);
  });
});

// ------------------------------------------------------------------------------------------- random histories

type WorkerEvent = 'listen' | 'fail' | 'die' | 'hang' | 'finish' | 'recycle' | 'disconnect';
type Step = { react: boolean } & (
  | { event: WorkerEvent; worker: number }
  | { event: 'reload' | 'up' | 'down' | 'no forks' | 'forks' }
  | { event: 'pass' | 'suspend'; milliseconds: number }
);

/** `react`: the supervisor sees it before the next step happens. */
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.record({
      event: fc.constantFrom<WorkerEvent[]>(
        ...([
          'listen',
          'listen',
          'listen',
          'listen',
          'fail',
          'die',
          'hang',
          'finish',
          'recycle',
          'disconnect',
        ] as const),
      ),
      worker: fc.nat(20),
      react: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      event: fc.constantFrom('reload' as const, 'reload' as const, 'up' as const, 'down' as const),
      react: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      event: fc.constantFrom('no forks' as const, 'forks' as const),
      react: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      event: fc.constantFrom('pass' as const, 'pass' as const, 'suspend' as const),
      milliseconds: fc.integer({ min: 1, max: 9_000 }),
      react: fc.boolean(),
    }),
  },
);
const steps = fc.array(step, { maxLength: 60 });

type World = Awaited<ReturnType<typeof start>>;

/** One random history: makes the steps happen, and notes what the supervisor must not do. */
class History {
  readonly world: World;
  readonly violations: string[] = [];
  wanted: number;
  mostWanted: number;
  /** How many forks there is a reason for. */
  forksAllowed: number;
  stopped = false;
  /** Whether a worker was killed, after the stop, that had not finished. */
  forced = false;
  /** How many workers and log lines there were at the last reload that was asked for. */
  lastReload: { workers: number; lines: number } | undefined;

  constructor(world: World) {
    this.world = world;
    this.wanted = world.config.workers;
    this.mostWanted = this.wanted;
    this.forksAllowed = this.wanted;
    for (const worker of world.cluster.workers) this.#watch(worker);
    world.cluster.onFork = (worker) => {
      if (this.isStopping()) this.violations.push('a fork after the stop');
      this.#watch(worker);
    };
  }

  isStopping(): boolean {
    return this.world.socket.close.mock.calls.length > 0; // it may also have given up
  }

  async happen(all: Step[]): Promise<void> {
    for (const one of all) {
      if ('worker' in one) this.#happenTo(one.event, one.worker);
      else if ('milliseconds' in one) await this.#pass(one.event, one.milliseconds);
      else this.#signal(one.event);
      if (one.react) await this.world.settle();
    }
    await this.world.settle();
  }

  /** From here on all goes well: what hangs goes on hanging, everything else does what it should. */
  async goWell(until: () => boolean): Promise<void> {
    const { cluster } = this.world;
    cluster.exhausted = false;
    for (let seconds = 0; !until() && seconds < 200; seconds++) {
      for (const worker of cluster.alive().filter(({ hung }) => !hung)) {
        if (worker.phase === 'booting') worker.listen();
        if (worker.phase === 'draining') worker.die(0);
      }
      await this.world.pass(1_000);
    }
    expect(until()).toBe(true);
  }

  #happenTo(event: WorkerEvent, index: number): void {
    const { cluster } = this.world;
    const pick = (...workers: FakeWorker[]) => workers[index % (workers.length || 1)];
    const able = (...phases: Parameters<FakeCluster['alive']>) =>
      cluster.alive(...phases).filter(({ hung }) => !hung);
    switch (event) {
      case 'listen':
        pick(...able('booting'))?.listen();
        break;
      case 'fail': {
        const worker = pick(...able('booting'));
        worker?.say({ type: 'boot-failed', reason: 'of no use' });
        worker?.die(1);
        break;
      }
      case 'die':
        pick(...cluster.alive())?.die(null, 'SIGSEGV');
        break;
      case 'hang':
        for (const worker of [pick(...able())]) if (worker) worker.hung = true;
        break;
      case 'finish':
        pick(...able('draining'))?.die(0);
        break;
      case 'recycle':
        this.forksAllowed += 1;
        pick(...able('listening'))?.say({ type: 'recycle' });
        break;
      case 'disconnect':
        pick(...able('listening', 'draining'))?.disconnect();
    }
  }

  #signal(event: 'reload' | 'up' | 'down' | 'no forks' | 'forks'): void {
    const { cluster, supervisor, lines } = this.world;
    if (event === 'reload') {
      this.forksAllowed += this.mostWanted;
      this.lastReload = { workers: cluster.workers.length, lines: lines.length };
      supervisor.reload();
    } else if (event === 'up' || event === 'down') {
      this.wanted = Math.max(1, this.wanted + (event === 'up' ? 1 : -1));
      this.mostWanted = Math.max(this.mostWanted, this.wanted);
      this.forksAllowed += event === 'up' ? 2 : 0; // one, and one more in a reload that was asked for already
      supervisor.scale(event === 'up' ? 1 : -1);
    } else {
      cluster.exhausted = event === 'no forks';
    }
  }

  async #pass(event: 'pass' | 'suspend', milliseconds: number): Promise<void> {
    if (event === 'pass') {
      await this.world.pass(milliseconds);
    } else {
      suspended += milliseconds;
      for (const worker of this.world.cluster.alive('listening')) worker.say({ type: 'heartbeat' });
    }
  }

  #watch(worker: FakeWorker): void {
    worker.onTold = (what) => {
      if (worker.received.includes(what)) this.violations.push(`received ${what} twice`);
      if (what === 'SIGKILL') {
        const fails = worker.hung || !worker.connected;
        if (worker.phase === 'listening' && !fails) this.violations.push('a healthy worker was killed');
        if (worker.phase === 'draining' && worker.connected && this.isStopping()) this.forced = true;
      } else if (worker.phase === 'listening' && !this.isStopping()) {
        const others = this.world.cluster
          .alive('listening')
          .filter((other) => other !== worker && other.connected && !other.received.includes('SIGKILL'));
        if (others.length < this.wanted) this.violations.push(`had to stop with ${others.length} others`);
      }
    };
    worker.on('exit', () => this.#onEnd(worker));
    worker.on('error', () => this.#onEnd(worker));
  }

  #onEnd(worker: FakeWorker): void {
    if (!worker.received.some((what) => what !== 'SIGKILL')) this.forksAllowed += 1;
  }
}

const runs = Number(process.env.RUNS ?? 200);

test('whatever happens: successors first, forks with a reason, reloads that end, and an exit with nothing left', async () => {
  const histories = fc.record({
    workers: fc.integer({ min: 1, max: 4 }),
    before: steps,
    settleFirst: fc.boolean(),
    after: steps,
  });
  await fc.assert(
    fc
      .asyncProperty(histories, async ({ workers, before, settleFirst, after }) => {
        const world = await start({ workers });
        const { cluster, lines } = world;
        const history = new History(world);
        await history.happen(before);
        if (settleFirst && !history.isStopping()) {
          const isCalm = () =>
            cluster.alive().length === history.wanted &&
            cluster.alive('listening').every(({ hung, connected }) => !hung && connected) &&
            cluster.alive('listening').length === history.wanted &&
            lines.slice(history.lastReload?.lines ?? lines.length).some((line) => /reload/.test(line)) ===
              (history.lastReload !== undefined);
          await history.goWell(isCalm);
          const outcome = lines.findLast((line) => /reload/.test(line));
          if (outcome && /reloaded/.test(outcome)) {
            expect(cluster.workers.indexOf(cluster.alive()[0] as FakeWorker)).toBeGreaterThanOrEqual(
              history.lastReload?.workers ?? 0,
            );
          }
        }
        world.supervisor.stop();
        history.stopped = true;
        await history.happen(after);
        await history.goWell(() => world.exitCode >= 0);
        expect(cluster.alive()).toEqual([]);
        expect(jest.getTimerCount()).toBe(0);
        const gaveUp = lines.some((line) => line.startsWith('fatal'));
        expect(world.exitCode).toBe(gaveUp || history.forced ? 1 : 0);
        expect(history.violations).toEqual([]);
        expect(cluster.workers.length).toBeLessThanOrEqual(history.forksAllowed);
      })
      .beforeEach(() => {
        jest.clearAllTimers();
        suspended = 0;
      }),
    { numRuns: runs },
  );
});
