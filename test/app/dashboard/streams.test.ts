import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { Context } from 'koa';
import { Streams } from '../../../src/app/dashboard/streams.ts';

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});

/** A response whose reader may be slow. */
class Response extends EventEmitter {
  writableNeedDrain = false;
  writableEnded = false;
  written: string[] = [];
  writeHead() {}
  write(text: string) {
    this.written.push(text);
  }
  end() {
    this.writableEnded = true;
    if (!this.writableNeedDrain) this.emit('close');
  }
  destroy() {
    this.emit('close');
  }
}

function open(streams: Streams<object>, method = 'GET') {
  const res = new Response();
  const ctx = { method, res, status: 404, set() {} } as unknown as Context;
  return { viewer: streams.open(ctx, {}), res, ctx };
}

test('the thousand-and-first viewer of a worker is refused with a reason', () => {
  const streams = new Streams<object>();
  for (let i = 0; i < 1_000; i++) expect(open(streams).viewer).toBeDefined();
  const { viewer, ctx } = open(streams);
  expect([viewer, ctx.status]).toEqual([undefined, 204]);
  streams.drain();
  expect(streams.viewers.size).toBe(0);
});

test('a viewer that does not read is not ready, is written nothing, and is dropped in the end', () => {
  const streams = new Streams<object>();
  const { viewer, res } = open(streams);
  expect(viewer?.ready()).toBe(true);
  res.writableNeedDrain = true;
  const { length } = res.written;
  expect(viewer?.ready()).toBe(false);
  jest.advanceTimersByTime(9_000);
  expect(res.written).toHaveLength(length);
  expect(streams.viewers.size).toBe(1);
  jest.advanceTimersByTime(7_000);
  expect(streams.viewers.size).toBe(0);
});

test('a stream without news gives signs of life', () => {
  const streams = new Streams<object>();
  const { res } = open(streams);
  jest.advanceTimersByTime(8_000);
  expect(res.written.filter((text) => text === ':\n\n').length).toBeGreaterThanOrEqual(4);
});

test('after drain() a stream ends as soon as it has begun', () => {
  const streams = new Streams<object>();
  streams.drain();
  const { res } = open(streams);
  jest.advanceTimersByTime(1);
  expect(res.writableEnded).toBe(true);
});

test('HEAD opens no stream', () => {
  const streams = new Streams<object>();
  const { viewer, ctx } = open(streams, 'HEAD');
  expect([viewer, ctx.status, streams.viewers.size]).toEqual([undefined, 200, 0]);
});
