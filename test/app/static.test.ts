import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startNginx } from '../support/nginx.ts';
import { stopAll, temporaryDirectory } from '../support/processes.ts';
import { request } from '../support/requests.ts';

afterEach(stopAll);

test('each file of src/app/static is served as it is, without the app', async () => {
  const nginx = await startNginx(join(temporaryDirectory(), 'nobody.sock'));
  for (const file of readdirSync('src/app/static')) {
    const { status, body } = await request(nginx, `/${file}`);
    expect({ status, body }).toEqual({ status: 200, body: readFileSync(`src/app/static/${file}`, 'utf8') });
  }
  expect((await request(nginx, '/favicon.svg')).headers['content-type']).toBe('image/svg+xml');
});
