import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { readConfig as read } from '../../src/server/config.ts';
import { startApp } from '../support/app.ts';
import { required } from '../support/judgement.ts';
import { stopAll } from '../support/processes.ts';
import { freePort, request } from '../support/requests.ts';
import { copyWithTestService } from '../support/test-service.ts';

const readConfig: typeof read = (variables) => read({ ...required, ...variables });

afterEach(stopAll);

const id = 'd'.repeat(32);
const headers = { 'X-Request-ID': id, 'X-Forwarded-For': '203.0.113.9' };

test.each([
  ['a named proxy', '10.0.0.0/8, 127.0.0.1', { id, ip: '203.0.113.9' }],
  [
    'another address',
    '10.0.0.0/8',
    { id: expect.not.stringMatching(id), ip: expect.stringMatching(/127\.0\.0\.1$/) },
  ],
])(
  'at a port, what %s says of the client and the id of its request is heeded as it should be',
  async (_, named, seen) => {
    const entry = join(copyWithTestService(), 'dist/main.js');
    const port = await freePort();
    const env = { WEB_CONCURRENCY: '1', TRUSTED_PROXIES: named };
    await startApp({ env: { ...env, LISTEN: `127.0.0.1:${port}` }, entry });
    expect(JSON.parse((await request({ port }, '/client', { headers })).body)).toEqual(seen);
  },
);

test('networks of both families are understood, addresses mapped into IPv6 too', () => {
  const { trustedProxies } = readConfig({ TRUSTED_PROXIES: '10.0.0.0/8,fd00::/8, ::1' });
  const names = (address: string, family: 'ipv4' | 'ipv6') => trustedProxies?.check(address, family);
  expect(names('10.1.2.3', 'ipv4')).toBe(true);
  expect(names('::ffff:10.1.2.3', 'ipv6')).toBe(true);
  expect(names('fd12::1', 'ipv6')).toBe(true);
  expect(names('::1', 'ipv6')).toBe(true);
  expect(names('11.1.2.3', 'ipv4')).toBe(false);
  expect(names('fe80::1', 'ipv6')).toBe(false);
});

test.each(['proxy', '10.0.0.0/33', '10.0.0', '10.0.0.1,', '::1/x', '*'])('%s names no proxy', (text) => {
  expect(() => readConfig({ TRUSTED_PROXIES: text })).toThrow(
    /TRUSTED_PROXIES is .*; right would be addresses/,
  );
});
