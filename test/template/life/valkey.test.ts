/** Valkey in the place of Redis: in a copy with one line changed, the store's tests pass, and the image starts. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { attempt, buildImage, startContainer } from '../../containers/engine.ts';
import { root, stopAll, temporaryDirectory } from '../../support/processes.ts';
import { cloneWorkingTree } from '../../support/repository.ts';
import { waitFor } from '../../support/wait.ts';

const image = 'valkey/valkey:8';
const has = (...args: string[]) => spawnSync('docker', [...args, image], { stdio: 'ignore' }).status === 0;
const isThere = has('image', 'inspect') || has('pull', '--quiet');
if (!isThere) process.stdout.write(`${image} cannot be had here: what is tested of it is skipped\n`);
const testWithValkey = isThere ? test : test.skip;

const minute = 60_000;
const copy = join(temporaryDirectory(), 'copy');
const commands = temporaryDirectory();

beforeAll(() => {
  if (!isThere) return;
  cloneWorkingTree(copy);
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  const dockerfile = readFileSync(join(copy, 'deploy/Dockerfile'), 'utf8');
  expect(dockerfile).toContain('FROM redis:8 ');
  writeFileSync(join(copy, 'deploy/Dockerfile'), dockerfile.replace('FROM redis:8 ', `FROM ${image} `));

  // A command redis-server that is the image's valkey-server, with the libraries of the image.
  const files = join(temporaryDirectory(), 'valkey');
  mkdirSync(files);
  execFileSync('sh', [
    '-ec',
    `id=$(docker create "$1") && docker export "$id" | tar -x -C "$2" --exclude 'dev/*' && docker rm --volumes "$id"`,
    ...['sh', image, files],
  ]);
  const run = (command: string) =>
    execFileSync('sh', ['-ec', command], { cwd: files, encoding: 'utf8' }).trim();
  const loader = run('echo "$PWD"/usr/lib*/ld-linux* | cut -d " " -f 1');
  const libraries = run('dirname "$PWD"/usr/lib/*/libc.so.6');
  const server = run(
    'ls "$PWD"/usr/bin/valkey-server "$PWD"/usr/local/bin/valkey-server 2>/dev/null || true',
  );
  writeFileSync(
    join(commands, 'redis-server'),
    `#!/bin/sh\nexec '${loader}' --library-path '${libraries}' '${server}' "$@"\n`,
    { mode: 0o755 },
  );
}, 5 * minute);
afterAll(stopAll);

function runTests(...patterns: string[]): void {
  const { status, stdout, stderr } = spawnSync('npm', ['test', '--', ...patterns], {
    cwd: copy,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${commands}:${process.env.PATH}` },
  });
  if (status !== 0) throw new Error(stdout + stderr);
}

testWithValkey('the command redis-server of these tests is it', () => {
  const { stdout } = spawnSync(join(commands, 'redis-server'), ['--version'], { encoding: 'utf8' });
  expect(stdout).toMatch(/^Valkey server v=8\./);
});

testWithValkey(
  'the store, its rights and its password',
  () => runTests('app', 'app/store.test', 'redis-rights', 'redis-password'),
  10 * minute,
);

testWithValkey(
  'the image that is built on it has the same commands and rights',
  async () => {
    const built = await buildImage(copy, 'redis');
    const password = [
      '--network',
      'none',
      '--env',
      'REDIS_PASSWORD=password',
      '--env',
      'REDISCLI_AUTH=password',
    ];
    const container = await startContainer('--read-only', '--tmpfs', '/tmp', ...password, built);
    const run = (...command: string[]) => attempt('docker', ['exec', container, ...command]);
    await waitFor(
      async () => (await run('redis-admin', '-e', 'ping')).code === 0,
      'Valkey to answer',
      minute,
    );
    expect((await run('redis-admin', 'info', 'server')).output).toContain('valkey_version:8.');
    const asApp = ['redis-cli', '--user', 'app', '--no-auth-warning'];
    expect((await run(...asApp, 'ping')).output).toBe('PONG\n');
    expect((await run(...asApp, 'flushall')).output).toMatch(/NOPERM/);
  },
  5 * minute,
);
