import type { Context } from 'koa';
import type { History } from './history.ts';
import { Streams } from './streams.ts';

const pollInterval = 200; // milliseconds, while somebody looks

/** The stream of the number of visits: always the newest, none of those between. */
export function createLive(history: History): { stream(ctx: Context): void; drain(): void } {
  const streams = new Streams<{ hits: number | undefined }>();
  let polling = false;

  async function poll(): Promise<void> {
    const hits = await history.count().catch(() => undefined);
    for (const [viewer, seen] of streams.viewers) {
      if (seen.hits === hits || !viewer.ready()) continue;
      seen.hits = hits;
      viewer.send(hits === undefined ? { event: 'away', data: {} } : { data: { hits } });
    }
    polling = streams.viewers.size > 0;
    if (polling) setTimeout(poll, pollInterval);
  }
  return {
    stream(ctx) {
      // Nothing yet is neither a number nor away.
      if (!streams.open(ctx, { hits: Number.NaN }) || polling) return;
      polling = true;
      poll();
    },
    drain: () => streams.drain(),
  };
}
