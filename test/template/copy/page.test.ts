/** What docs/your-service.md shows is code: a copy that follows the page step by step compiles, and passes its tests. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Copy, makeCopy, readFiles } from './page.ts';

let copy: Copy;
afterAll(() => copy.remove());

beforeAll(() => {
  const files = readFiles('docs/your-service.md');
  expect([...files.keys()].sort()).toEqual([
    ...['notes', 'primary', 'redis', 'routes', 'service', 'settings'].map((name) => `src/app/${name}.ts`),
    ...['notes.test', 'visit'].map((name) => `test/app/${name}.ts`),
  ]);
  copy = makeCopy(files, ['src/app/static', 'test/app/backing.ts']);
  copy.run('npm', 'ci', '--prefer-offline', '--no-audit', '--no-fund');
  copy.run('npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', '@koa/bodyparser');
}, 600_000);

test('the code of the page is formatted and compiles', () => {
  copy.run('npx', 'biome', 'check', 'src/app', 'test/app');
  copy.run('npx', 'tsc');
  copy.run('npx', 'tsc', '--project', 'test');
});

test('the test of the page passes', () => {
  copy.run('npx', 'jest', 'test/app/notes');
});

test('its judge takes no answer to HEAD for one to GET', () => {
  const fuzz = ['npx', 'jest', 'test/faults/fuzz', '-t', 'no request whatever'];
  copy.run('env', 'FAULTS=short', 'FAULTS_SEED=542538181', ...fuzz);
});
