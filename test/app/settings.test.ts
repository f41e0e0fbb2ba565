import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readConfig } from '../../src/server/config.ts';

test.each([
  'redis://redis',
  'redis://redis:6380/2',
  'redis://app@redis',
  'redis://:secret@redis:6380/2',
  'rediss://user:secret@redis.example/0',
  'redis://user:a%2Fb@redis',
])('REDIS_URL may be %s', (url) => {
  expect(readConfig({ REDIS_URL: url }).redisUrl).toBe(url);
});

test.each([
  ['redis://', 'redis://[user'],
  ['redis:6379', 'redis://[user'],
  ['http://redis', 'redis://[user'],
  ['redis://user:ab/cd@redis', 'redis://[user'],
  ['redis://host/name', 'a number as its database'],
  ['redis://user:12/3@redis', 'REDIS_PASSWORD for a password with'],
  ['redis://user:12#x@redis', 'REDIS_PASSWORD for a password with'],
  ['redis://user:12?x@redis', 'REDIS_PASSWORD for a password with'],
  ['redis://user:a%b@redis', 'REDIS_PASSWORD for a password with'],
])('REDIS_URL=%s is refused', (url, right) => {
  const read = () => readConfig({ REDIS_URL: url });
  expect(read).toThrow('REDIS_URL is wrong (not shown: it may contain a password); right would be ');
  expect(read).toThrow(right);
});

test('no message shows a password, whatever it is', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 5, maxLength: 30 }), (random) => {
      const password = `s3cr3t${random}`;
      try {
        readConfig({ REDIS_URL: `redis://user:${password}@redis`, REDIS_PASSWORD: password, LISTEN: '-' });
      } catch (error) {
        expect((error as Error).message).toContain('LISTEN is "-"');
        expect((error as Error).message).not.toContain('s3cr3t');
      }
    }),
  );
});

test('a password may have any character, but for line ends at its end', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1, unit: 'binary' }), (password) => {
      const trimmed = password.replace(/[\r\n]+$/, '') || undefined;
      expect(readConfig({ REDIS_PASSWORD: password }).redisPassword).toBe(trimmed);
    }),
  );
});
