/** What docs/dashboard.md says about the removal of the dashboard is done in a copy, which is checked and tested then. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { cloneWorkingTree } from '../../support/repository.ts';

const minute = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'without-'));
const copy = join(folder, 'copy');
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

function run(command: string, ...args: string[]): string {
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, NO_COLOR: '1' };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: copy, encoding: 'utf8', env });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return stdout + stderr;
}

beforeAll(() => {
  mkdirSync(copy);
  cloneWorkingTree(copy);
  run('npm', 'ci', '--prefer-offline', '--no-audit', '--no-fund');
  const [, commands = ''] =
    /^## Remove it\n[\s\S]*?((?:^ {4}.*\n)+)/m.exec(readFileSync('docs/dashboard.md', 'utf8')) ?? [];
  run('sh', '-e', '-c', commands);
}, 10 * minute);

test('nothing is left that speaks of it', () => {
  const files = 'src deploy .devcontainer docker-compose.yml package.json jest.config.js';
  expect(run('sh', '-c', `git grep -ilE 'dashboard|uplot' -- ${files} || true`)).toBe('');
});

test(
  'the checks pass',
  () => {
    run('npm', 'run', 'check');
  },
  5 * minute,
);

test(
  'the tests pass',
  () => {
    expect(
      Number(/^Tests: .*?(\d+) passed/m.exec(run('npm', 'test', '--', 'app'))?.[1] ?? 0),
    ).toBeGreaterThan(50);
  },
  10 * minute,
);
