import type { Context as Request } from 'koa';
import type { Context, Viewer } from '../contract.ts';
import type { Store } from './store.ts';

const pollInterval = 200; // milliseconds, while somebody looks

/** The stream of the number of visits: always the newest, none of those between. */
export interface Live {
  show(ctx: Request): void;
}

export function createLive(store: Pick<Store, 'count'>, { stream }: Pick<Context, 'stream'>): Live {
  const seen = new Map<Viewer, number | undefined>();
  let polling = false;

  async function poll(): Promise<void> {
    const hits = await store.count().catch(() => undefined);
    const frame = hits === undefined ? { event: 'away', data: {} } : { data: { hits } };
    for (const [viewer, last] of seen) {
      if (last === hits || !viewer.ready()) continue;
      seen.set(viewer, hits);
      viewer.send(frame);
    }
    polling = seen.size > 0;
    if (polling) setTimeout(poll, pollInterval);
  }
  return {
    show(ctx) {
      const viewer = stream(ctx);
      if (!viewer) return;
      seen.set(viewer, Number.NaN); // nothing yet is neither a number nor away
      viewer.closed.then(() => seen.delete(viewer));
      if (polling) return;
      polling = true;
      poll();
    },
  };
}
