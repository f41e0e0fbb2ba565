import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import * as redisStore from '../../src/app/redis-store.ts';
import { parseDuration, readPlaces, readRelations, total } from '../support/durations.ts';

const { interval, timeout, start_period, start_interval } = parse(readFileSync('docker-compose.yml', 'utf8'))
  .services.redis.healthcheck;

/** What the app waits for. */
const durations: Record<string, number> = {
  '`connectTimeout`': redisStore.connectTimeout,
  '`socketTimeout`': redisStore.socketTimeout,
  '`pingInterval`': redisStore.pingInterval,
  '`initialBackoff`': redisStore.initialBackoff,
  '`maxBackoff`': redisStore.maxBackoff,
};
const ofHealthCheck: Record<string, number> = {
  "Redis' health check `interval`": parseDuration(interval),
  "Redis' health check `timeout`": parseDuration(timeout),
  "Redis' health check `start_period`": parseDuration(start_period),
  "Redis' health check `start_interval`": parseDuration(start_interval),
};

test('the docs have each duration of the app, as it is', () => {
  const told = [
    ...readPlaces('docs/counter.md'),
    ...readPlaces().filter(({ name }) => name.startsWith('Redis')),
  ];
  expect(Object.fromEntries(told.map(({ name, milliseconds }) => [name, milliseconds]))).toEqual({
    ...durations,
    ...ofHealthCheck,
  });
});

const own = new Set(Object.keys(durations));

test.each(
  readRelations('docs/counter.md').filter(({ shorter, longer }) =>
    [...shorter, ...longer].some(({ name }) => own.has(name)),
  ),
)('$row', ({ shorter, longer }) => {
  for (const { name, milliseconds } of [...shorter, ...longer]) {
    if (own.has(name)) expect({ name, milliseconds }).toEqual({ name, milliseconds: durations[name] });
  }
  expect(total(shorter)).toBeLessThan(total(longer));
});
