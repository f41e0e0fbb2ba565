import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startNginx } from '../support/nginx.ts';
import { stopAll, temporaryDirectory } from '../support/processes.ts';
import { request } from '../support/requests.ts';

afterEach(stopAll);

test('each file of src/app/static is served as it is, without the app', async () => {
  const nginx = await startNginx(join(temporaryDirectory(), 'nobody.sock'));
  const entries = readdirSync('src/app/static', { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
  expect(files).not.toEqual([]);
  for (const file of files) {
    const { status, body } = await request(nginx, `/${relative('src/app/static', file)}`);
    expect({ file, status }).toEqual({ file, status: 200 });
    expect(body).toBe(readFileSync(file, 'utf8'));
  }
  expect((await request(nginx, '/favicon.svg')).headers['content-type']).toBe('image/svg+xml');
});
