import { availableParallelism } from 'node:os';
import { afterEach, expect, jest, test } from '@jest/globals';
import fc from 'fast-check';
import { readConfig as read, settings } from '../../src/server/config.ts';
import { ConfigError } from '../../src/server/env.ts';
import { required } from '../support/judgement.ts';

const readConfig: typeof read = (variables) => read({ ...required, ...variables });

test('an empty environment gives every default', () => {
  expect(readConfig({})).toMatchObject({
    listen: { port: 8080 },
    workers: availableParallelism(),
    workerTimeout: 30_000,
    gracefulTimeout: 20_000,
    maxRequests: 0,
    maxRequestsJitter: 0,
    logLevel: 'info',
  });
});

afterEach(() => {
  jest.restoreAllMocks();
});

test.each([
  ['a limit of 128 MiB', 128 * 2 ** 20, 1],
  ['a limit below', 2 ** 20, 1],
  ['a limit of 2 GiB', 2 ** 31, Math.min(16, availableParallelism())],
  ['no limit, as Node 20 says it', 0, availableParallelism()],
])('with %s of memory there are by default no more workers than it bears', (_, limit, workers) => {
  jest.spyOn(process, 'constrainedMemory').mockReturnValue(limit);
  expect(readConfig({})).toMatchObject({ workers });
  expect(readConfig({ WEB_CONCURRENCY: '40' })).toMatchObject({ workers: 40 });
});

test('an empty variable counts as absent', () => {
  const optional = Object.values(settings).filter(({ name }) => !(name in required));
  const empty = Object.fromEntries(optional.map(({ name }) => [name, '']));
  expect(readConfig(empty)).toEqual(readConfig({}));
});

test('every wrong variable is named with what it had and what is right', () => {
  const read = () => readConfig({ LISTEN: 'nowhere', WEB_CONCURRENCY: '0', LOG_LEVEL: 'loud' });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(
    /LISTEN is "nowhere"; right would be a port.*\n.*WEB_CONCURRENCY is "0".*1 to 512\n.*LOG_LEVEL is "loud"; right would be one of debug/,
  );
});

test.each([
  ['8080', { port: 8080 }],
  ['1', { port: 1 }],
  ['65535', { port: 65_535 }],
  ['127.0.0.1:3000', { host: '127.0.0.1', port: 3000 }],
  ['localhost:3000', { host: 'localhost', port: 3000 }],
  ['[::1]:3000', { host: '::1', port: 3000 }],
  ['/run/app/app.sock', { path: '/run/app/app.sock' }],
  ['./app.sock', { path: './app.sock' }],
])('LISTEN may be %s', (text, listen) => {
  expect(readConfig({ LISTEN: text }).listen).toEqual(listen);
});

test('PORT is where it listens, unless LISTEN says where', () => {
  expect(readConfig({ PORT: '3000' }).listen).toEqual({ port: 3000 });
  expect(readConfig({ PORT: '3000', LISTEN: './app.sock' }).listen).toEqual({ path: './app.sock' });
});

test.each([
  ['PORT', '65536'],
  ['LISTEN', '0'],
  ['LISTEN', '65536'],
  ['LISTEN', '80 80'],
  ['LISTEN', ':8080'],
  ['LISTEN', '::1:8080'],
  ['LISTEN', `/${'long/'.repeat(20)}app.sock`], // would be cut by the kernel
  ['WEB_CONCURRENCY', '1.5'],
  ['WEB_CONCURRENCY', '-1'],
  ['WEB_CONCURRENCY', 'many'],
  ['WORKER_TIMEOUT', '-1'],
  ['WORKER_TIMEOUT', '30s'],
  ['GRACEFUL_TIMEOUT', '0'],
  ['MAX_REQUESTS', '1e3'],
  ['LOG_LEVEL', 'INFO'],
  ['RELOAD', 'yes'],
])('%s=%s is refused', (name, text) => {
  expect(() => readConfig({ [name]: text })).toThrow(`${name} is ${JSON.stringify(text)}; right would be`);
});

const anyText = fc.oneof(fc.string(), fc.integer().map(String), fc.double().map(String), fc.webUrl());

test('whatever the environment has, there is a sound configuration or one error naming just what is wrong', () => {
  const names = Object.values(settings).map(({ name }) => name);
  const environments = fc.dictionary(fc.constantFrom(...names), anyText, { noNullPrototype: true });
  fc.assert(
    fc.property(environments, (environment) => {
      const isWrong = (name: string) => {
        try {
          readConfig({ [name]: environment[name] });
          return false;
        } catch {
          return true;
        }
      };
      const wrong = Object.keys(environment).filter(isWrong);
      if (wrong.length > 0) {
        expect(() => readConfig(environment)).toThrow(ConfigError);
        for (const name of names) {
          const expectation = expect(() => readConfig(environment));
          const named = new RegExp(`^  ${name} is `, 'm');
          if (wrong.includes(name)) expectation.toThrow(named);
          else expectation.not.toThrow(named);
        }
        return;
      }
      const config = readConfig(environment);
      expect(config.workers).toBeGreaterThanOrEqual(1);
      expect(config.gracefulTimeout).toBeGreaterThan(0);
      expect(config.workerTimeout).toBeGreaterThanOrEqual(0);
      expect(Number.isInteger(config.maxRequests) && config.maxRequests >= 0).toBe(true);
      if ('port' in config.listen) expect(config.listen.port).toBeGreaterThan(0);
    }),
    { numRuns: 150 },
  );
});

test('any port and host that LISTEN may have comes out as it went in', () => {
  const host = fc.oneof(fc.ipV4(), fc.domain());
  fc.assert(
    fc.property(host, fc.integer({ min: 1, max: 65_535 }), (name, port) => {
      expect(readConfig({ LISTEN: `${name}:${port}` }).listen).toEqual({ host: name, port });
    }),
  );
  fc.assert(
    fc.property(fc.ipV6(), fc.integer({ min: 1, max: 65_535 }), (address, port) => {
      expect(readConfig({ LISTEN: `[${address}]:${port}` }).listen).toEqual({ host: address, port });
    }),
  );
});
