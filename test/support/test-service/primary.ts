import type { Channel } from '../../../src/contract.ts';

export function openPrimary(): (worker: Channel) => void {
  return () => {};
}
