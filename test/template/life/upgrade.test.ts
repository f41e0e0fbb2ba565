/** `npm run upgrade` in real copies of a small template, which has two real tags and changes of every kind between them. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { cloneWorkingTree, git } from '../../support/repository.ts';

const scratch = mkdtempSync(join(tmpdir(), 'upgrade-'));
const template = join(scratch, 'template');
const script = join(process.cwd(), '.github/upgrade.sh');
const text = (...lines: string[]) => `${lines.join('\n')}\n`;
/** Titles far enough apart that changes of two of them do not touch. */
const chapters = (...titles: string[]) =>
  text(...titles.flatMap((title, chapter) => [title, ...[1, 2, 3, 4].map((line) => `${chapter}.${line}`)]));

let copy: string;
let number = 0;

/** Files that differ between the versions, and what each is there for. */
const versionOne = {
  '.gitattributes': text(
    '* text=auto eol=lf',
    '/test/template export-ignore',
    '/.gitattributes export-ignore',
  ),
  'README.md': 'one\n',
  'src/server/worker.ts': chapters('one', 'two', 'three'),
  'src/server/socket.ts': chapters('bind', 'listen', 'accept'),
  'src/app/counter.ts': chapters('count', 'remember'),
  'src/app/routes.ts': chapters('one', 'table'),
  'src/app/service.ts': 'one\n',
  'docs/faults.md': chapters('faults'),
  'docs/übersicht eins.md': 'one\n',
  'deploy/old.conf': 'one\n',
  'test/template/own.test.ts': 'one\n',
};

function write(folder: string, files: Record<string, string>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}

const read = (path: string) => readFileSync(join(copy, path), 'utf8');

function manifest(version: string, dependencies: Record<string, string> = {}): string {
  const scripts = { test: 'true', upgrade: '.github/upgrade.sh' };
  return `${JSON.stringify({ name: 'service', version: '0.0.0', scripts, template: { repository: template, version }, dependencies }, null, 2)}\n`;
}

function release(version: string): void {
  npm(template, 'install', '--package-lock-only');
  git(template, 'add', '--all');
  git(template, 'commit', '--quiet', '--message', `Release ${version}`);
  git(template, 'tag', `v${version}`);
}

function npm(folder: string, ...args: string[]): void {
  const { status, stderr } = spawnSync('npm', [...args, '--offline', '--no-audit'], {
    cwd: folder,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
}

/** A copy as `npx giget` makes it: the files of the tag that travel, in one fresh commit. */
function copyOf(version: string, from = template): string {
  const folder = join(scratch, `copy ${++number}`);
  mkdirSync(folder);
  const archive = spawnSync('git', ['archive', version], { cwd: from, maxBuffer: 2 ** 26 });
  spawnSync('tar', ['-x'], { cwd: folder, input: archive.stdout });
  git(folder, 'init', '--quiet', '--initial-branch', 'main');
  git(folder, 'config', 'user.name', 'owner');
  git(folder, 'config', 'user.email', 'owner@localhost');
  commitAll(folder);
  return folder;
}

function commitAll(folder = copy): void {
  git(folder, 'add', '--all');
  git(folder, 'commit', '--quiet', '--allow-empty', '--message', 'change');
}

/** What a person types; with its output as it is read, and its exit code. */
function upgrade(
  args: string[] = [],
  env: Record<string, string> = {},
): { said: string; code: number | null } {
  const { stdout, stderr, status } = spawnSync('npm', ['run', '--silent', 'upgrade', ...args], {
    cwd: copy,
    encoding: 'utf8',
    env: { ...process.env, npm_config_offline: 'true', GIT_EDITOR: 'false', ...env },
  });
  return { said: stdout + stderr, code: status };
}

/** All that an upgrade may change. */
const state = () => [
  git(copy, 'rev-parse', 'HEAD'),
  git(copy, 'status', '--porcelain'),
  git(copy, 'ls-files', '--stage'),
];

beforeAll(() => {
  write(template, versionOne);
  mkdirSync(join(template, '.github'));
  cpSync(script, join(template, '.github/upgrade.sh'));
  for (const name of ['first', 'second']) {
    write(template, { [`packages/${name}/package.json`]: `${JSON.stringify({ name, version: '1.0.0' })}\n` });
  }
  write(template, { 'package.json': manifest('1.0.0', { first: 'file:packages/first' }) });
  git(template, 'init', '--quiet', '--initial-branch', 'main');
  release('1.0.0');

  // Past the tag, as a copy may be made from main.
  write(template, { 'src/server/worker.ts': chapters('one', 'two', 'three, fixed') });
  commitAll(template);

  write(template, {
    'src/server/worker.ts': chapters('one', 'two', 'three, fixed', 'four'),
    'src/server/listen.ts': chapters('bind', 'listen with a backlog', 'accept'),
    'src/app/counter.ts': chapters('count', 'remember', 'forget'),
    'src/app/routes.ts': chapters('two', 'table'),
    'src/app/service.ts': 'two\n',
    'src/app/clock.ts': 'clock\n',
    'docs/faults.md': chapters('faults', 'more of them'),
    'docs/übersicht eins.md': 'two\n',
    'deploy/new.sh': '#!/bin/sh\n',
    'test/template/own.test.ts': 'two\n',
    'test/template/more.test.ts': 'two\n',
    'package.json': manifest('2.0.0', { first: 'file:packages/first', second: 'file:packages/second' }),
    // It replaces itself while it runs.
    '.github/upgrade.sh': `${readFileSync(script, 'utf8').replace('#!/usr/bin/env bash', '#!/usr/bin/env bash\n# newer\nexit 9')}`,
  });
  chmodSync(join(template, 'deploy/new.sh'), 0o755);
  rmSync(join(template, 'src/server/socket.ts'));
  rmSync(join(template, 'deploy/old.conf'));
  release('2.0.0');
  git(template, 'tag', 'v3.0.0-rc.1');
});

beforeEach(() => {
  copy = copyOf('v1.0.0');
});

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe('a copy whose owner has changed other places', () => {
  test('gets edits, renames, deletions and new files, in one commit on a branch', () => {
    const before = git(copy, 'rev-parse', 'HEAD');
    expect(upgrade()).toEqual({
      said: text(
        'upgrade: it is not verified who made v2.0.0: this copy has no .github/allowed_signers',
        'upgrade: v1.0.0 → v2.0.0, on the branch template-v2.0.0: git show --stat',
      ),
      code: 0,
    });
    expect(git(copy, 'log', '--format=%s', `${before}..`)).toBe('Upgrade the template from v1.0.0 to v2.0.0');
    expect(git(copy, 'branch', '--show-current')).toBe('template-v2.0.0');
    expect(git(copy, 'rev-parse', 'main')).toBe(before);
    expect(git(copy, 'status', '--porcelain')).toBe('');
    expect(read('src/server/worker.ts')).toContain('four');
    expect(read('docs/übersicht eins.md')).toBe('two\n');
    expect(existsSync(join(copy, 'deploy/old.conf'))).toBe(false);
    expect(git(copy, 'ls-files', '--stage', 'deploy/new.sh')).toMatch(/^100755/);
  });

  test('keeps edits in the same file, in a file that is renamed, and in one that it has renamed itself', () => {
    write(copy, {
      'src/server/worker.ts': chapters('one of mine', 'two', 'three'),
      'src/server/socket.ts': chapters('bind', 'listen', 'accept as I do'),
    });
    renameSync(join(copy, 'docs/faults.md'), join(copy, 'docs/what-breaks.md'));
    commitAll();
    expect(upgrade().code).toBe(0);
    expect(read('src/server/worker.ts')).toBe(chapters('one of mine', 'two', 'three, fixed', 'four'));
    expect(read('src/server/listen.ts')).toBe(chapters('bind', 'listen with a backlog', 'accept as I do'));
    expect(read('docs/what-breaks.md')).toBe(chapters('faults', 'more of them'));
    expect(existsSync(join(copy, 'docs/faults.md'))).toBe(false);
  });

  test('gets nothing of what does not travel', () => {
    upgrade();
    expect(git(copy, 'ls-files', 'test', '.gitattributes')).toBe('');
  });

  test('may have replaced src/app: the changes of src/server go in', () => {
    rmSync(join(copy, 'src/app'), { recursive: true });
    write(copy, { 'src/app/orders.ts': 'orders\n' });
    commitAll();
    expect(upgrade().code).toBe(0);
    expect(read('src/server/worker.ts')).toContain('four');
    expect(git(copy, 'ls-files', 'src/app')).toBe('src/app/orders.ts');
  });

  test('may have changed files of src/app: those stay, the others are upgraded', () => {
    write(copy, { 'src/app/routes.ts': chapters('mine', 'table') });
    commitAll();
    expect(upgrade().code).toBe(0);
    expect(read('src/app/routes.ts')).toBe(chapters('mine', 'table'));
    expect(read('src/app/counter.ts')).toBe(chapters('count', 'remember', 'forget'));
    expect(read('src/app/clock.ts')).toBe('clock\n');
  });

  test('may have a service of its own: what the template adds in src/app has no place there', () => {
    write(copy, { 'src/app/service.ts': 'mine\n' });
    commitAll();
    expect(upgrade().code).toBe(0);
    expect(read('src/app/service.ts')).toBe('mine\n');
    expect(existsSync(join(copy, 'src/app/clock.ts'))).toBe(false);
    expect(read('src/app/counter.ts')).toBe(chapters('count', 'remember', 'forget'));
  });

  test('may have been made past its tag: what it has already is no conflict', () => {
    copy = copyOf('v2.0.0~1');
    expect(read('src/server/worker.ts')).toContain('three, fixed');
    expect(upgrade().code).toBe(0);
    expect(read('src/server/worker.ts')).toBe(chapters('one', 'two', 'three, fixed', 'four'));
  });

  test('has the new version on record, so that a second run has nothing to do', () => {
    upgrade();
    expect(JSON.parse(read('package.json')).template.version).toBe('2.0.0');
    git(copy, 'checkout', '--quiet', 'HEAD', '.');
    cpSync(script, join(copy, '.github/upgrade.sh'));
    commitAll();
    const before = state();
    expect(upgrade()).toEqual({ said: 'upgrade: nothing to do: this copy has v2.0.0\n', code: 0 });
    expect(state()).toEqual(before);
  });

  test('gets a lock file that is made anew from both sides’ packages', () => {
    write(copy, { 'packages/mine/package.json': '{"name":"mine","version":"1.0.0"}\n' });
    npm(copy, 'install', '--package-lock-only', './packages/mine');
    commitAll();
    const { code } = upgrade();
    // Both sides have added a line at the same place of package.json.
    expect(code).toBe(1);
    write(copy, {
      'package.json': manifest('2.0.0', {
        first: 'file:packages/first',
        mine: 'file:packages/mine',
        second: 'file:packages/second',
      }),
    });
    git(copy, 'add', 'package.json');
    npm(copy, 'install');
    git(copy, 'add', 'package-lock.json');
    git(copy, '-c', 'core.editor=true', 'cherry-pick', '--continue');
    const packages = Object.keys(JSON.parse(git(copy, 'show', 'HEAD:package-lock.json')).packages);
    expect(packages).toEqual(expect.arrayContaining(['packages/first', 'packages/mine', 'packages/second']));
    expect(git(copy, 'status', '--porcelain', '--untracked-files=no')).toBe('');
  });

  test('gets the lock file without a question where package.json merges', () => {
    upgrade();
    const { packages } = JSON.parse(git(copy, 'show', 'HEAD:package-lock.json'));
    expect(Object.keys(packages)).toContain('packages/second');
  });
});

describe('a copy whose owner has deleted what the template has changed', () => {
  test('does not get it back, and the command says so', () => {
    rmSync(join(copy, 'docs'), { recursive: true });
    commitAll();
    const { said, code } = upgrade();
    expect(code).toBe(0);
    expect(said).toContain('stays deleted: docs/faults.md\n');
    expect(said).toContain('stays deleted: docs/übersicht eins.md\n');
    expect(git(copy, 'ls-files', 'docs')).toBe('');
    expect(git(copy, 'log', '-1', '--format=%s')).toBe('Upgrade the template from v1.0.0 to v2.0.0');
    expect(git(copy, 'ls-files', 'package-lock.json')).not.toBe('');
  });
});

describe('a copy whose owner has changed the same place', () => {
  beforeEach(() => {
    write(copy, { 'src/server/worker.ts': chapters('one', 'two', 'three of mine') });
    rmSync(join(copy, 'docs'), { recursive: true });
    commitAll();
  });

  test('is shown the conflict as git shows it, and goes on by --continue', () => {
    const { said, code } = upgrade();
    expect(code).toBe(1);
    expect(said).toContain('UU src/server/worker.ts');
    expect(read('src/server/worker.ts')).toContain('<<<<<<< HEAD');
    write(copy, { 'src/server/worker.ts': chapters('one', 'two', 'three of mine, fixed', 'four') });
    git(copy, 'add', 'src/server/worker.ts');
    git(copy, '-c', 'core.editor=true', 'cherry-pick', '--continue');
    expect(git(copy, 'log', '-1', '--format=%s')).toBe('Upgrade the template from v1.0.0 to v2.0.0');
    expect(git(copy, 'status', '--porcelain')).toBe('');
    // The rest went in with it: the lock file was made anew, and what was deleted stays so.
    expect(git(copy, 'show', 'HEAD:package-lock.json')).toContain('packages/second');
    expect(git(copy, 'ls-files', 'docs')).toBe('');
  });

  test('has all as it was after --abort, and can begin again', () => {
    const before = state();
    const { said } = upgrade();
    const [, abort] = /as it was: (.*)/.exec(said) ?? [];
    spawnSync('sh', ['-c', abort ?? 'false'], { cwd: copy });
    expect(state()).toEqual(before);
    expect(git(copy, 'branch', '--format=%(refname:short)')).toBe('main');
    expect(upgrade().said).toContain('UU src/server/worker.ts');
  });

  test('is not upgraded once more while one is under way', () => {
    upgrade();
    cpSync(script, join(copy, '.github/upgrade.sh'));
    expect(upgrade()).toMatchObject({ said: expect.stringContaining('cherry-pick --continue'), code: 1 });
  });
});

describe('nothing is touched', () => {
  test.each<[string, () => unknown, string]>([
    [
      'a file has changes that are not committed',
      () => write(copy, { 'README.md': 'mine\n' }),
      'not committed',
    ],
    [
      'no branch is checked out',
      () => git(copy, 'switch', '--quiet', '--detach'),
      'no branch is checked out',
    ],
    [
      'the template cannot be reached',
      () => setTemplate({ repository: join(scratch, 'nowhere') }),
      'does not appear to be a git repository',
    ],
    [
      'the copy’s version is none of the template’s',
      () => setTemplate({ version: '0.9.0' }),
      'no version v0.9.0',
    ],
    [
      'a file that git does not know is in the way',
      () => write(copy, { 'deploy/new.sh': 'mine\n' }),
      'untracked working tree files would be overwritten',
    ],
    [
      'the branch has an upgrade that is not merged',
      () => {
        upgrade();
        git(copy, 'switch', '--quiet', 'main');
      },
      'the branch template-v2.0.0 has an upgrade already',
    ],
  ])('where %s', (_, provoke, expected) => {
    provoke();
    const before = [...state(), git(copy, 'branch', '--list')];
    const { said, code } = upgrade();
    expect(said).toContain(expected);
    expect(code).not.toBe(0);
    expect([...state(), git(copy, 'branch', '--list')]).toEqual(before);
  });

  function setTemplate(change: Record<string, string>): void {
    const { template: record, ...rest } = JSON.parse(read('package.json'));
    write(copy, {
      'package.json': `${JSON.stringify({ ...rest, template: { ...record, ...change } }, null, 2)}\n`,
    });
    commitAll();
  }

  test('where the address is not known; TEMPLATE names it', () => {
    setTemplate({ repository: '' });
    expect(upgrade()).toMatchObject({
      said: expect.stringContaining('TEMPLATE=<its address> npm run upgrade'),
      code: 1,
    });
    expect(upgrade([], { TEMPLATE: template }).said).not.toContain('TEMPLATE=');
  });
});

test('the version may be named; a pre-release is taken only then', () => {
  expect(upgrade(['v1.0.0']).said).toBe('upgrade: nothing to do: this copy has v1.0.0\n');
  expect(upgrade(['v9.0.0']).said).toBe('upgrade: the template has no version v9.0.0\n');
  expect(upgrade(['v3.0.0-rc.1']).said).toContain('v1.0.0 → v3.0.0-rc.1');
});

describe('a copy that knows the template’s keys', () => {
  const [ours, theirs] = ['ours', 'theirs'].map((name) => join(scratch, name)) as [string, string];
  const taken = { said: expect.stringContaining('v1.0.0 → v2.1.0'), code: 0 };
  const refused = {
    said: expect.stringContaining('v2.1.0 is not signed by a key of .github/allowed_signers'),
    code: 1,
  };

  function sign(key: string, tag = 'v2.1.0'): void {
    const settings = ['-c', 'gpg.format=ssh', '-c', `user.signingKey=${key}.pub`];
    git(template, ...settings, 'tag', '--sign', '--message', tag, tag, 'v2.0.0^{}');
  }

  beforeAll(() => {
    for (const key of [ours, theirs]) spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  });
  beforeEach(() => {
    write(copy, { '.github/allowed_signers': `* ${readFileSync(`${ours}.pub`, 'utf8')}` });
    commitAll();
  });
  afterEach(() => {
    git(template, 'tag', '--delete', 'v2.1.0');
  });

  test('takes a version that one of them has signed', () => {
    sign(ours);
    expect(upgrade()).toEqual(taken);
  });

  test.each<[string, () => unknown]>([
    [
      'no key has signed',
      () => git(template, 'tag', '--annotate', '--message', 'v2.1.0', 'v2.1.0', 'v2.0.0'),
    ],
    ['has a commit for a tag', () => git(template, 'tag', 'v2.1.0', 'v2.0.0')],
    ['another key has signed, which its own list names', () => sign(theirs)],
    [
      'was signed under another name',
      () => {
        sign(ours, 'v0.9.0');
        git(template, 'update-ref', 'refs/tags/v2.1.0', git(template, 'rev-parse', 'v0.9.0'));
        git(template, 'tag', '--delete', 'v0.9.0');
      },
    ],
  ])('refuses a version that %s', (_, make) => {
    make();
    git(copy, 'config', 'gpg.ssh.allowedSignersFile', `${theirs}.pub`);
    const before = state();
    expect(upgrade()).toEqual(refused);
    expect(state()).toEqual(before);
  });
});

const added = git('.', 'log', '--format=%H', '--diff-filter=A', '--max-count=1', '--', 'src/contract.ts');
const before = `${added}~1`;
const isThere = spawnSync('git', ['rev-parse', '--quiet', '--verify', `${before}^{tree}`]).status === 0;
const describeWithHistory = isThere ? describe : describe.skip; // a shallow clone lacks that version

describeWithHistory('a copy with its own service, of the version before src/contract.ts', () => {
  const real = join(scratch, 'real');

  /** The door of that version: the types in src/app/service.ts, above the owner's own code. */
  function readDoor(): string {
    const service = git('.', 'show', `${before}:src/app/service.ts`);
    return service.slice(
      service.indexOf('/** What the server runs'),
      service.indexOf('/**\n * Called once in each worker'),
    );
  }

  beforeAll(() => {
    git('.', 'clone', '--quiet', '--shared', '.', real);
    git(real, 'checkout', '--quiet', '--detach', before);
    git(real, 'tag', 'v0.1.0');
    cloneWorkingTree(join(scratch, 'now'));
    git(real, 'fetch', '--quiet', join(scratch, 'now'), 'main');
    git(real, 'checkout', '--quiet', 'FETCH_HEAD');
    npm(real, 'pkg', 'set', 'template.version=0.2.0');
    git(real, 'commit', '--quiet', '--all', '--message', 'Release 0.2.0');
    git(real, 'tag', 'v0.2.0');
  });

  test('gets the contract, and its own files are as they were and compile', () => {
    copy = copyOf('v0.1.0', real);
    const own = 'test/template/copy/without-redis/src/app';
    for (const folder of ['src/app', 'test/app']) rmSync(join(copy, folder), { recursive: true });
    for (const file of git(real, 'ls-tree', '--name-only', 'v0.1.0', `${own}/`).split('\n')) {
      const mine = git(real, 'show', `v0.1.0:${file}`).replace(/^\/\/ The types .*\n\n/m, readDoor);
      write(copy, { [file.replace(own, 'src/app')]: mine });
    }
    cpSync(script, join(copy, '.github/upgrade.sh')); // its own script does not know yet what the owner's files are
    commitAll();
    const { code, said } = upgrade([], { TEMPLATE: real });
    expect([code, said]).toEqual([0, expect.stringContaining('v0.1.0 → v0.2.0')]);
    expect(existsSync(join(copy, 'src/contract.ts'))).toBe(true);
    expect(git(copy, 'diff', '--name-only', 'main', 'HEAD', '--', 'src/app', 'test/app')).toBe('');
    symlinkSync(join(process.cwd(), 'node_modules'), join(copy, 'node_modules'));
    expect(spawnSync('npx', ['tsc', '--noEmit'], { cwd: copy, encoding: 'utf8' }).stdout).toBe('');
  });
});
