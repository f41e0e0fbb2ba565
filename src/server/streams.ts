/**
 * Server-sent events, to many viewers. A stream ends by itself after 10 to 15 s, and the browser opens it again: so no
 * open tab holds up a stop of nginx, and viewers spread over new workers. Nothing is queued for a viewer that is slow.
 */
import type { ServerResponse } from 'node:http';
import type { Context } from 'koa';
import type { StreamFrame, Viewer } from '../contract.ts';

/** Milliseconds. */
const minAge = 10_000;
const maxAge = 15_000;
const maxSilence = 1_500; // nginx gives up a stream that is silent for 5 s, so that a hung worker is noticed
const endTimeout = 500;

const maxViewers = 1_000; // a worker

const between = (min: number, max: number) => min + Math.random() * (max - min);

const encoded = new WeakMap<StreamFrame, string>();

/** A frame that many viewers get is encoded once. */
function encode(frame: StreamFrame): string {
  const known = encoded.get(frame);
  if (known !== undefined) return known;
  const { event, id, data } = frame;
  const lines = [event && `event: ${event}`, id && `id: ${id}`, `data: ${JSON.stringify(data)}`];
  const text = `${lines.filter(Boolean).join('\n')}\n\n`;
  encoded.set(frame, text);
  return text;
}

export class Streams {
  readonly #ends = new Set<() => void>();
  #draining = false;

  /** What contract.ts promises of `stream`. */
  open = (ctx: Context): Viewer | undefined => {
    ctx.set('Cache-Control', 'no-store');
    if (this.#ends.size >= maxViewers) {
      ctx.status = 204; // tells an EventSource not to come again
      return undefined;
    }
    if (ctx.method === 'HEAD') {
      ctx.status = 200;
      return undefined;
    }
    ctx.respond = false;
    ctx.res.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    return this.#serve(ctx.res);
  };

  #serve(res: ServerResponse): Viewer {
    let lastSent = 0;
    const write = (text: string) => {
      lastSent = Date.now();
      res.write(text);
    };
    const ready = () => !res.writableNeedDrain && !res.writableEnded;
    write(`retry: ${Math.round(between(100, 1_000))}\n\n`);
    const signOfLife = setInterval(() => {
      if (ready() && Date.now() - lastSent >= maxSilence) write(':\n\n');
    }, maxSilence / 3);
    const end = () => {
      if (res.writableEnded) return;
      res.end();
      setTimeout(() => res.destroy(), endTimeout).unref(); // who does not read is not waited for
    };
    const aged = setTimeout(end, between(minAge, maxAge));
    this.#ends.add(end);
    const closed = new Promise<void>((resolve) => {
      res.once('close', () => {
        clearInterval(signOfLife);
        clearTimeout(aged);
        this.#ends.delete(end);
        resolve();
      });
    });
    if (this.#draining) setImmediate(end);
    return { ready, send: (frame) => write(encode(frame)), closed };
  }

  /** Ends all streams, and those that come later at once. */
  drain(): void {
    this.#draining = true;
    for (const end of this.#ends) end();
  }
}
