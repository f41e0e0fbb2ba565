// What the commands of the pipeline say on a machine that lacks something, and what `npm run ci` calls a clone's images.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { root } from './workflow.ts';

const folder = mkdtempSync(join(tmpdir(), 'commands-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A folder for PATH with nothing in it but what every machine has and the scripts that are given. */
function makeBin(name: string, commands: string[], scripts: Record<string, string> = {}): string {
  const bin = join(folder, name);
  mkdirSync(bin);
  for (const command of ['bash', 'cat', 'cmp', 'dirname', 'env', 'git', 'grep', 'head', ...commands]) {
    symlinkSync(execFileSync('which', [command], { encoding: 'utf8' }).trim(), join(bin, command));
  }
  for (const [script, text] of Object.entries(scripts)) {
    writeFileSync(join(bin, script), `#!/usr/bin/env bash\n${text}\n`, { mode: 0o755 });
  }
  return bin;
}

describe('on a machine without the tools', () => {
  const bin = makeBin('bare', ['node']);
  function run(script: string, args: string[] = [], env: NodeJS.ProcessEnv = {}) {
    const { status, stdout, stderr } = spawnSync(join(root, '.github', script), args, {
      encoding: 'utf8',
      env: { PATH: bin, HOME: bin, ...env },
    });
    return { status, stdout, stderr };
  }

  test('lint says in one line what to type', () => {
    const stderr = 'tools: missing or outdated: npm run tools\n';
    expect(run('lint.sh')).toEqual({ status: 1, stdout: '', stderr });
  });

  test('check goes without them, and says so; in CI it fails', () => {
    const stdout = 'lint: skipped workflows, shell scripts, Dockerfile and manifests\n';
    expect(run('lint.sh', ['--if-there'])).toMatchObject({ status: 0, stdout });
    expect(run('lint.sh', ['--if-there'], { CI: 'true' })).toMatchObject({ status: 1, stdout: '' });
  });

  test('ci says in one line how to get act', () => {
    const stderr = 'ci: act is missing: npm run tools, or set ACT_BINARY\n';
    expect(run('ci.mjs')).toEqual({ status: 1, stdout: '', stderr });
  });

  test('ci says in one line that it needs jq', () => {
    const stderr = 'ci: jq is missing: https://jqlang.org/download\n';
    expect(run('ci.mjs', [], { ACT_BINARY: '/bin/true' })).toEqual({ status: 1, stdout: '', stderr });
  });

  test('tools says in one line that it needs Python', () => {
    const { status, stderr } = run('tools.sh');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^tools: Python 3 with venv is missing: .*\n$/);
  });
});

describe('npm run ci names the images', () => {
  const bin = makeBin('fakes', ['node', 'jq'], {
    act: 'for argument; do case $argument in GITHUB_REPOSITORY=*) echo "$argument" ;; esac; done',
    docker: 'case $1 in version) echo amd64 ;; esac',
  });

  test.each([
    ['https://github.com/Owner/Some_Name.js.git', 'Owner/Some_Name.js'],
    ['git@github.com:Owner/name.git', 'Owner/name'],
    ['ssh://git@github.com:443/owner/name.git', 'owner/name'],
    ['ssh://git@git.example.org:2222/group/sub/name.git', 'group/sub/name'],
    ['https://token@gitlab.example.org/group/sub/name/', 'group/sub/name'],
    ['git@host:~user/grün__er..name.git', 'user/gr-n-er-name'],
    ['git@host:name.git', 'local/name'],
    ['/srv/git/Name.git', 'local/Name'],
    ['../other folder', 'local/other-folder'],
    ['file:///srv/git/name.git', 'local/name'],
    ['', 'local/My-Clone'],
  ])('of a clone from "%s"', (origin, name) => {
    const clone = mkdtempSync(join(folder, 'clone-'));
    const work = join(clone, 'My Clone');
    execFileSync('git', ['init', '--quiet', work]);
    if (origin) execFileSync('git', ['remote', 'add', 'origin', origin], { cwd: work });
    const { stdout } = spawnSync('node', [join(root, '.github/ci.mjs')], {
      cwd: work,
      encoding: 'utf8',
      env: { PATH: bin, HOME: bin, REGISTRY: 'localhost:1', ACT_BINARY: join(bin, 'act') },
    });
    const [, given = ''] = /^GITHUB_REPOSITORY=(.*)$/m.exec(stdout) ?? [];
    expect(given).toBe(name);
    // https://github.com/distribution/reference: what a registry takes as the name of a repository, once in lower case
    expect(given.toLowerCase()).toMatch(
      /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+$/,
    );
  });
});
