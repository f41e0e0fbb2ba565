import type { Channel } from './service.ts';

/** Nothing lives in the primary process. */
export function openPrimary(): (worker: Channel) => void {
  return () => {};
}
