import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../../support/app.ts';
import { stopAll } from '../../support/processes.ts';
import { request } from '../../support/requests.ts';
import { copyWithTestService } from '../../support/test-service.ts';

afterEach(stopAll);

const paths = ['/dashboard', '/dashboard/plots.json', '/dashboard/events', '/dashboard/figures/mass.json'];

test('a service without `plots` has no dashboard, however open its door is', async () => {
  const copy = copyWithTestService();
  const file = join(copy, 'dist/app/service.js');
  const code = readFileSync(file, 'utf8');
  const without = code.replace(/\bplots: \{\s*figures\s*\},/, '');
  expect(without).not.toBe(code);
  writeFileSync(file, without);
  const env = { WEB_CONCURRENCY: '1', DASHBOARD: 'open' };
  const { address } = await startApp({ env, entry: join(copy, 'dist/main.js') });
  for (const path of paths) {
    const { status, body } = await request(address, path);
    expect([path, status, body]).toEqual([path, 404, 'Not Found']);
  }
});
