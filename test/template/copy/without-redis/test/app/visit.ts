import type { Exchange, Verdict } from '../support/history.ts';

export const visit = { path: '/units', headers: {} };

/** Every answer is the list of units. */
export function judge(history: Exchange[]): Verdict {
  const wrong = history
    .filter(({ status, body }) => status === 200 && body !== '{"units":["celsius","fahrenheit"]}')
    .map(({ body }) => `not the list of units: ${body}`);
  return { wrong, unacknowledged: 0 };
}
