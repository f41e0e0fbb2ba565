/** The compiled server with a service of the tests' own (folder test-service) in place of the app. */
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { transformFileSync } from '@swc/core';
import { root } from './processes.ts';
import { copyRepository } from './repository.ts';

const folder = join(root, 'test/support/test-service');

/** A copy of the repository's compiled code that a test may change; its entry is dist/main.js. */
export function copyWithTestService(): string {
  const copy = copyRepository('dist');
  const app = join(copy, 'dist/app');
  rmSync(app, { recursive: true });
  mkdirSync(app);
  for (const file of readdirSync(folder)) {
    const { code } = transformFileSync(join(folder, file), {
      jsc: { target: 'es2023', parser: { syntax: 'typescript' } },
      module: { type: 'es6' },
    });
    writeFileSync(join(app, file.replace(/ts$/, 'js')), code);
  }
  return copy;
}
