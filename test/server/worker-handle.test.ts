import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { type Child, WorkerHandle } from '../../src/server/worker-handle.ts';
import { FakeWorker } from './fake-workers.ts';

beforeEach(() => {
  jest.useFakeTimers({ doNotFake: ['nextTick'] });
});
afterEach(() => {
  jest.useRealTimers();
});

const timeouts = { boot: 30_000, heartbeat: 2_000, graceful: 10_000, orphan: 500 };

function create(changes: Partial<typeof timeouts> = {}) {
  const worker = new FakeWorker(4711);
  const handle = new WorkerHandle(worker as unknown as Child, 3, { ...timeouts, ...changes });
  const events: string[] = [];
  for (const name of ['listening', 'recycle', 'disconnect', 'unreachable', 'exit'] as const) {
    handle.on(name, () => events.push(name));
  }
  /** Milliseconds until it is to be killed. */
  const left = () => handle.deadline - performance.now();
  return { worker, handle, events, left };
}

test('a new worker is booting, of the generation in which it was forked, and has its time to boot', () => {
  const { handle, left } = create();
  expect(handle).toMatchObject({ state: 'booting', generation: 3, recycle: false, killed: false, pid: 4711 });
  expect(left()).toBe(30_000);
});

test('a heartbeat prolongs the life of a worker that listens, and of no other', () => {
  const { worker, handle, events, left } = create();
  jest.advanceTimersByTime(1_000);
  worker.say({ type: 'heartbeat' });
  expect(left()).toBe(29_000);
  worker.listen();
  expect(handle.state).toBe('listening');
  expect(left()).toBe(2_000);
  jest.advanceTimersByTime(1_500);
  worker.say({ type: 'heartbeat' });
  expect(left()).toBe(2_000);
  handle.retire();
  jest.advanceTimersByTime(1_500);
  worker.say({ type: 'heartbeat' });
  expect(left()).toBe(8_500);
  expect(events).toEqual(['listening']);
});

test('without a worker timeout a worker that listens may be silent for ever', () => {
  const { worker, left } = create({ heartbeat: 0 });
  worker.listen();
  expect(left()).toBe(Number.POSITIVE_INFINITY);
});

test.each([
  ['retire', 'retire'],
  ['terminate', 'SIGTERM'],
] as const)('%s sends a worker that listens %s, once, and gives it time', (act, signal) => {
  const { worker, handle, left } = create();
  worker.listen();
  handle[act]();
  jest.advanceTimersByTime(1_000);
  handle.terminate();
  handle.retire();
  expect(worker.received).toEqual([signal]);
  expect(handle).toMatchObject({ state: 'stopping', killed: false });
  expect(left()).toBe(9_000);
});

test.each(['retire', 'terminate'] as const)(
  '%s kills a worker that is booting: it has begun nothing',
  (act) => {
    const { worker, handle, events } = create();
    handle[act]();
    expect(worker.received).toEqual(['SIGKILL']);
    expect(handle.state).toBe('stopping');
    worker.emit('message', { type: 'listening' }); // was on its way
    expect(handle.state).toBe('stopping');
    jest.runAllTimers();
    expect(events).toEqual(['disconnect', 'exit']);
  },
);

test.each([
  ['boots too long', (_: FakeWorker) => {}, 'did not listen within 30 s'],
  ['is silent', (worker: FakeWorker) => worker.listen(), 'silent for 2 s'],
  ['crashes', (worker: FakeWorker) => worker.die(7), 'exit code 7'],
  ['is killed by somebody', (worker: FakeWorker) => worker.die(null, 'SIGSEGV'), 'killed by SIGSEGV'],
  [
    'reports why it cannot boot',
    (worker: FakeWorker) => {
      worker.say({ type: 'boot-failed', reason: 'Error: of no use' });
      worker.die(1);
    },
    'Error: of no use',
  ],
])('one that %s has a reason', (_, happen, reason) => {
  const { worker, handle, events } = create();
  happen(worker);
  handle.kill();
  handle.kill();
  jest.runAllTimers();
  expect(handle.reason).toBe(reason);
  expect(worker.received).toEqual(['SIGKILL']);
  expect(events.filter((event) => event === 'exit')).toHaveLength(1);
});

test('a process that outlives its channel has half a second, or less if its time is nearly over', () => {
  const first = create();
  first.worker.listen();
  first.worker.emit('disconnect');
  first.worker.emit('message', { type: 'heartbeat' }); // had been read already
  expect(first.left()).toBe(500);
  first.handle.kill();
  expect(first.handle.reason).toBe('closed its channel and went on');
  const second = create();
  second.worker.listen();
  second.handle.retire();
  jest.advanceTimersByTime(9_900);
  second.worker.emit('disconnect');
  expect(second.left()).toBe(100);
});

test('a worker that could not be forked has ended; one that cannot be reached has not', () => {
  const worker = new FakeWorker(undefined);
  const handle = new WorkerHandle(worker as unknown as Child, 1, timeouts);
  let exits = 0;
  handle.on('exit', () => {
    exits += 1;
  });
  worker.emit('error', new Error('spawn EAGAIN'));
  worker.emit('error', new Error('channel closed')); // as a sender to it gets
  expect({ exits, reason: handle.reason, state: handle.state }).toEqual({
    exits: 1,
    reason: 'spawn EAGAIN',
    state: 'booting',
  });
  const other = create();
  other.worker.emit('error', new Error('write EPIPE'));
  expect(other.events).toEqual(['unreachable']);
});

test('a worker that has served its number of requests is to be replaced, and goes on', () => {
  const { worker, handle, events } = create();
  worker.listen();
  worker.say({ type: 'recycle' });
  expect(handle).toMatchObject({ state: 'listening', recycle: true });
  expect(events).toEqual(['listening', 'recycle']);
});

test('what the app says on the same channel means nothing here', () => {
  const { worker, handle, events, left } = create();
  jest.advanceTimersByTime(10);
  worker.emit('message', { type: 'anything', id: 1 });
  expect(handle.state).toBe('booting');
  expect(left()).toBe(29_990);
  expect(events).toEqual([]);
});
