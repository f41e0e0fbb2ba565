import { expect, test } from '@jest/globals';
import { connectTimeout, pingInterval, socketTimeout } from '../../src/app/redis-store.ts';
import { retryBudget } from '../../src/server/retry.ts';

test.each<[Record<string, number>, Record<string, number>, string]>([
  [{ connectTimeout }, { retryBudget }, 'one connection that hangs takes the whole budget'],
  [{ socketTimeout }, { retryBudget }, 'one frozen connection takes the whole budget'],
  [{ pingInterval }, { socketTimeout }, 'an idle connection is taken for a frozen one'],
])('%j is less than %j milliseconds, or else %s', (shorter, longer) => {
  const [[a = Number.NaN], [b = Number.NaN]] = [Object.values(shorter), Object.values(longer)];
  expect(a).toBeLessThan(b);
});
