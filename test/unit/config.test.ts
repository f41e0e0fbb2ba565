import { availableParallelism } from 'node:os';
import { expect, test } from '@jest/globals';
import { ConfigError, readConfig } from '../../src/config.ts';

test('an empty environment gives every default', () => {
  expect(readConfig({})).toEqual({
    listen: { port: 8080 },
    workers: availableParallelism(),
    workerTimeout: 30_000,
    gracefulTimeout: 20_000,
    maxRequests: 0,
    maxRequestsJitter: 0,
    logLevel: 'info',
    reload: false,
  });
});

test('every wrong variable is named with what it had and what is right', () => {
  const read = () => readConfig({ LISTEN: 'nowhere', WEB_CONCURRENCY: '0', REDIS_URL: 'http://redis' });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(
    /LISTEN is "nowhere"; right would be a port.*\n.*WEB_CONCURRENCY is "0".*1 to 512\n.*REDIS_URL is "http:/,
  );
});
