import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { stopAll, temporaryDirectory } from '../support/processes.ts';

afterEach(stopAll);

test.each([
  ['by default', { default: './index.js' }],
  ['to import alone', { node: { import: './index.js' } }],
])('a test loads what imports a package of ES modules that offers them %s', async (_, exports) => {
  const folder = temporaryDirectory();
  const modern = join(folder, 'node_modules/modern');
  mkdirSync(modern, { recursive: true });
  writeFileSync(join(modern, 'package.json'), JSON.stringify({ type: 'module', exports }));
  writeFileSync(join(modern, 'index.js'), 'export const url = import.meta.url;\n');
  writeFileSync(join(folder, 'app.mjs'), "export * from 'modern';\n");
  expect(await import(join(folder, 'app.mjs'))).toMatchObject({ url: `file://${modern}/index.js` });
});
