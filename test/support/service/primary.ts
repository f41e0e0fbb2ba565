import type { Channel } from '../../../src/app/service.ts';

export function openPrimary(): (worker: Channel) => void {
  return () => {};
}
