/** What docs/your-service.md shows is code: a copy that follows the page step by step compiles, and passes its test. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { cloneWorkingTree } from '../../support/repository.ts';

const folder = mkdtempSync(join(tmpdir(), 'page-'));
const copy = join(folder, 'copy');
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

function run(command: string, ...args: string[]): void {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: copy, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
}

/** The blocks of the page that begin with the path of their file. */
function readFiles(): Map<string, string> {
  const page = readFileSync('docs/your-service.md', 'utf8');
  const blocks = page.matchAll(/^```ts\n(\/\/ ((?:src|test)\/app\/[\w.-]+\.ts).*\n[\s\S]*?)^```$/gm);
  return new Map([...blocks].map(([, text = '', path = '']) => [path, text]));
}

beforeAll(() => {
  mkdirSync(copy);
  cloneWorkingTree(copy);
  const files = readFiles();
  expect([...files.keys()].sort()).toEqual([
    ...['notes', 'primary', 'routes', 'service', 'settings'].map((name) => `src/app/${name}.ts`),
    ...['notes.test', 'visit'].map((name) => `test/app/${name}.ts`),
  ]);
  for (const wing of ['src/app', 'test/app']) rmSync(join(copy, wing), { recursive: true });
  for (const [path, text] of files) {
    mkdirSync(dirname(join(copy, path)), { recursive: true });
    writeFileSync(join(copy, path), text);
  }
  for (const kept of ['src/app/static', 'test/app/backing.ts']) {
    cpSync(kept, join(copy, kept), { recursive: true });
  }
  run('npm', 'ci', '--prefer-offline', '--no-audit', '--no-fund');
  run('npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', '@koa/bodyparser');
}, 600_000);

test('the code of the page is formatted and compiles', () => {
  run('npx', 'biome', 'check', 'src/app', 'test/app');
  run('npx', 'tsc');
  run('npx', 'tsc', '--project', 'test');
});

test('the test of the page passes', () => {
  run('npx', 'jest', 'test/app/notes');
});
