import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import type { Context } from 'koa';
import { Streams } from '../../src/server/streams.ts';

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

function open(streams: Streams, method = 'GET') {
  const res = new Response();
  const ctx = { method, res, status: 404, set() {} } as unknown as Context;
  return { viewer: streams.open(ctx), res, ctx };
}

test('the thousand-and-first viewer of a worker is refused with a reason, until one is gone', () => {
  const streams = new Streams();
  const [first] = Array.from({ length: 1_000 }, () => open(streams));
  const { viewer, ctx } = open(streams);
  expect([viewer, ctx.status]).toEqual([undefined, 204]);
  first?.res.destroy();
  expect(open(streams).viewer).toBeDefined();
  streams.drain();
});

test('a viewer that does not read is not ready, is written nothing, and is dropped in the end', async () => {
  const streams = new Streams();
  const { viewer, res } = open(streams);
  expect(viewer?.ready()).toBe(true);
  res.writableNeedDrain = true;
  const { length } = res.written;
  expect(viewer?.ready()).toBe(false);
  jest.advanceTimersByTime(9_000);
  expect(res.written).toHaveLength(length);
  jest.advanceTimersByTime(7_000);
  await viewer?.closed;
});

test('a frame for many viewers is encoded once', () => {
  const streams = new Streams();
  const viewers = [open(streams), open(streams), open(streams)];
  const toJSON = jest.fn(() => 'once');
  const frame = { event: 'news', id: '7', data: { toJSON } };
  for (const { viewer } of viewers) viewer?.send(frame);
  for (const { res } of viewers) expect(res.written.at(-1)).toBe('event: news\nid: 7\ndata: "once"\n\n');
  expect(toJSON).toHaveBeenCalledTimes(1);
  streams.drain();
});

test('a stream without news gives signs of life', () => {
  const streams = new Streams();
  const { res } = open(streams);
  jest.advanceTimersByTime(8_000);
  expect(res.written.filter((text) => text === ':\n\n').length).toBeGreaterThanOrEqual(4);
});

test('after drain() a stream ends as soon as it has begun', () => {
  const streams = new Streams();
  streams.drain();
  const { res } = open(streams);
  jest.advanceTimersByTime(1);
  expect(res.writableEnded).toBe(true);
});

test('HEAD opens no stream', () => {
  const { viewer, ctx } = open(new Streams(), 'HEAD');
  expect([viewer, ctx.status]).toEqual([undefined, 200]);
});
