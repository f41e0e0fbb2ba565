/**
 * The promise of the whole project: a copy of what travels passes its own tests, and still does, in everything that is
 * kept, after src/app and test/app were replaced by another service.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { startRegistry } from '../../pipeline/registry.ts';
import { cloneWorkingTree, git } from '../../support/repository.ts';

const minute = 60_000;
const folder = mkdtempSync(join(tmpdir(), 'copy-'));
const copy = join(folder, 'My own.Service');

/** What travels of the working tree, published and applied, as the one commit of a new repository. */
beforeAll(() => {
  const tree = join(folder, 'tree');
  cloneWorkingTree(tree);
  const registry = startRegistry();
  const published = ['push', registry.address, 'some-owner/some-repository'];
  const said = execFileSync('test/template/publish.sh', published, { cwd: tree, encoding: 'utf8' });
  const id = said.trim().split('\n').at(-1) as string;
  mkdirSync(copy);
  const args = ['devcontainer', 'templates', 'apply', '--workspace-folder', copy, '--template-id', id];
  execFileSync('npx', args, { stdio: 'pipe' });
  registry.stop();
  git(copy, 'init', '--quiet', '--initial-branch', 'main');
  commit('first');
  run('npm', 'ci', '--prefer-offline', '--no-audit', '--no-fund');
}, 5 * minute);
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

function commit(message: string): void {
  git(copy, 'add', '--all');
  git(copy, 'commit', '--quiet', '--message', message);
}

/** Runs a command in the copy, as its owner would, and returns what it has written. */
function run(command: string, ...args: string[]): string {
  const { PATH, HOME, CI } = process.env;
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: copy,
    encoding: 'utf8',
    env: { PATH, HOME, CI, NO_COLOR: '1' },
    maxBuffer: 2 ** 28,
  });
  const output = stdout + stderr;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${output}`);
  return output;
}

/** What jest says that it has run: it must be something. */
function passed(output: string): number {
  return Number(/^Tests: .*?(\d+) passed/m.exec(output)?.[1] ?? 0);
}

describe('the copy as it is', () => {
  test('has nothing that protects the template alone', () => {
    expect(existsSync(join(copy, 'test/template'))).toBe(false);
    expect(existsSync(join(copy, '.ci'))).toBe(false);
    for (const path of [
      'src/main.ts',
      'src/app',
      'src/server',
      'docs',
      'CONTRIBUTING.md',
      '.github/workflows',
    ]) {
      expect([path, existsSync(join(copy, path))]).toEqual([path, true]);
    }
  });

  test('has no script, task or workflow that names a file which does not travel', () => {
    const text = [
      readFileSync(join(copy, 'package.json'), 'utf8'),
      ...['.github', '.github/workflows', '.vscode', '.devcontainer'].flatMap((directory) =>
        readdirSync(join(copy, directory), { withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map(({ name }) => readFileSync(join(copy, directory, name), 'utf8')),
      ),
    ].join('\n');
    const paths =
      text.match(/(?<![\w/.-])(?:\.\/)?(?:test|src|deploy|docs|\.github|\.ci)\/[\w./-]*\w/g) ?? [];
    expect(paths.length).toBeGreaterThan(10);
    const made = '.github/allowed_signers'; // by the first release
    expect([...new Set(paths)].filter((path) => path !== made && !existsSync(join(copy, path)))).toEqual([]);
  });

  test(
    'is checked and tested by its own commands',
    () => {
      run('npm', 'run', 'check');
      expect(passed(run('npm', 'test'))).toBeGreaterThan(100);
    },
    5 * minute,
  );

  test(
    'comes up, is opened in its dev container, and its first push is green, all by its own commands',
    () => {
      expect(passed(run('npm', 'test', '--', 'containers', 'stack', 'devcontainer'))).toBeGreaterThan(25);
      expect(run('npm', 'run', 'ci')).toContain('push: green');
    },
    30 * minute,
  );
});

describe.each([
  ['without Redis: several routes, one of them a POST with a JSON body', 'without-redis'],
  ['with its own keys and commands in Redis, and an open stream of events', 'with-redis'],
])('with another service in src/app, %s', (_, name) => {
  beforeAll(() => {
    for (const wing of ['src/app', 'test/app']) {
      rmSync(join(copy, wing), { recursive: true });
      cpSync(join(__dirname, name, wing), join(copy, wing), { recursive: true });
    }
    commit(name);
  });

  test(
    'nothing else has to be edited, and the checks and tests of what is kept pass',
    () => {
      expect(
        git(copy, 'diff', '--name-only', 'HEAD~1')
          .split('\n')
          .filter((path) => !/^(src|test)\/app\//.test(path)),
      ).toEqual([]);
      run('npm', 'run', 'check');
      expect(passed(run('npm', 'test'))).toBeGreaterThan(80);
    },
    5 * minute,
  );

  test(
    'its images are built, come up, are rolled out, killed and reloaded as before',
    () => {
      expect(passed(run('npm', 'test', '--', 'containers', 'images', 'stack', 'single'))).toBeGreaterThan(25);
    },
    15 * minute,
  );
});
