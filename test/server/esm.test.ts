import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { stopAll, temporaryDirectory } from '../support/processes.ts';

afterEach(stopAll);

test('a test can load a package that consists of ES modules alone', async () => {
  const folder = join(temporaryDirectory(), 'node_modules/modern');
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(folder, 'index.js'), 'export const answer = 42;\n');
  expect(await import(join(folder, 'index.js'))).toMatchObject({ answer: 42 });
});
