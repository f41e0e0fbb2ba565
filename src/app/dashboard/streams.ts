/**
 * Server-sent events, to many viewers. A stream ends by itself after 10 to 15 s, and the browser opens it again: so no
 * open tab holds up a stop of nginx, and viewers spread over new workers. Nothing is queued for a viewer that is slow.
 */
import type { ServerResponse } from 'node:http';
import type { Context } from 'koa';

/** Milliseconds. */
const minAge = 10_000;
const maxAge = 15_000;
const maxSilence = 1_500; // nginx gives up a stream that is silent for 5 s, so that a hung worker is noticed
const endTimeout = 500;

const maxViewers = 1_000; // a worker

export interface Viewer {
  /** Whether it has read what it was sent before. Otherwise skip it: the next frame will have what is new then. */
  ready(): boolean;
  send(frame: { event?: string; id?: string; data: unknown }): void;
}

const between = (min: number, max: number) => min + Math.random() * (max - min);

export class Streams<Own> {
  /** Who looks, and what you know of each. */
  readonly viewers = new Map<Viewer, Own>();
  readonly #ends = new Set<() => void>();
  #draining = false;

  /** Answers the request with a stream; `own` is told to `viewers`. Returns nothing if there is none: see the status. */
  open(ctx: Context, own: Own): Viewer | undefined {
    ctx.set('Cache-Control', 'no-store');
    if (this.viewers.size >= maxViewers) {
      ctx.status = 204; // tells an EventSource not to come again
      return undefined;
    }
    if (ctx.method === 'HEAD') {
      ctx.status = 200;
      return undefined;
    }
    ctx.respond = false;
    ctx.res.writeHead(200, { 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    const viewer = this.#serve(ctx.res);
    if (!this.#draining) this.viewers.set(viewer, own);
    return viewer;
  }

  #serve(res: ServerResponse): Viewer {
    let lastSent = 0;
    const write = (text: string) => {
      lastSent = Date.now();
      res.write(text);
    };
    const viewer: Viewer = {
      ready: () => !res.writableNeedDrain && !res.writableEnded,
      send({ event, id, data }) {
        const lines = [event && `event: ${event}`, id && `id: ${id}`, `data: ${JSON.stringify(data)}`];
        write(`${lines.filter(Boolean).join('\n')}\n\n`);
      },
    };
    write(`retry: ${Math.round(between(100, 1_000))}\n\n`);
    const signOfLife = setInterval(() => {
      if (viewer.ready() && Date.now() - lastSent >= maxSilence) write(':\n\n');
    }, maxSilence / 3);
    const end = () => {
      if (res.writableEnded) return;
      res.end();
      setTimeout(() => res.destroy(), endTimeout).unref(); // who does not read is not waited for
    };
    const aged = setTimeout(end, between(minAge, maxAge));
    this.#ends.add(end);
    res.once('close', () => {
      clearInterval(signOfLife);
      clearTimeout(aged);
      this.#ends.delete(end);
      this.viewers.delete(viewer);
    });
    if (this.#draining) setImmediate(end);
    return viewer;
  }

  /** Ends all streams, and those that come later at once. */
  drain(): void {
    this.#draining = true;
    for (const end of this.#ends) end();
  }
}
