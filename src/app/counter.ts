import type { Context } from '../contract.ts';
import type { Store } from './store.ts';

/** What is counted: visits, each exactly once. */
export interface Counter {
  /**
   * Counts the visit and resolves to its number: 1, 2, 3 … without a gap or a repetition, whatever the number of
   * workers. The same id again gets the same number and counts nothing.
   *
   * @throws what is answered by 503, if the store does not answer in time or too many visits wait.
   */
  visit(id: string): Promise<number>;
}

/** Batches of a worker that are under way at once: while Redis syncs for one, the next one is on its way. */
const concurrency = 4;

/**
 * A counter on a store. Visits that wait together are numbered together: the busier the worker, the fewer commands for
 * each visit. The store gives a repeated id its first number, so a batch whose outcome is unknown can be sent again.
 */
export function createCounter(
  store: Pick<Store, 'allocate'>,
  { batch, metrics }: Pick<Context, 'batch' | 'metrics'>,
): Counter {
  const allocate = batch(
    async (ids: string[], deadline) => {
      const begin = performance.now();
      const numbers = await store.allocate(ids, deadline);
      metrics.observe('db_client_operation', (performance.now() - begin) / 1000);
      return numbers;
    },
    { concurrency },
  );
  return { visit: (id) => allocate(id, id) };
}
