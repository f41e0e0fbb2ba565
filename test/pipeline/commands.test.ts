// What the commands of the pipeline say on a machine that lacks something, and what `npm run ci` hands to act.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { root } from './workflow.ts';

const folder = mkdtempSync(join(tmpdir(), 'commands-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** A folder for PATH with nothing in it but what every machine has and the scripts that are given. */
function makeBin(name: string, commands: string[], scripts: Record<string, string> = {}): string {
  const bin = join(folder, name);
  mkdirSync(bin, { recursive: true });
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
    const stdout = 'lint: skipped workflows, shell scripts, Dockerfile, manifests and secrets\n';
    expect(run('lint.sh', ['--if-there'])).toMatchObject({ status: 0, stdout });
    expect(run('lint.sh', ['--if-there'], { CI: 'true' })).toMatchObject({ status: 1, stdout: '' });
  });

  test('ci says in one line how to get act', () => {
    const stderr = 'ci: act is missing: npm run tools, or set ACT_BINARY\n';
    expect(run('ci.sh')).toEqual({ status: 1, stdout: '', stderr });
  });

  test('ci says in one line that it needs jq', () => {
    const stderr = 'ci: jq is missing: https://jqlang.org/download\n';
    expect(run('ci.sh', [], { ACT_BINARY: '/bin/true' })).toEqual({ status: 1, stdout: '', stderr });
  });

  test('tools says in one line that it needs Python', () => {
    const { status, stderr } = run('tools.sh');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^tools: Python 3 with venv is missing: .*\n$/);
  });
});

describe('npm run lint', () => {
  const tools = ['actionlint', 'zizmor', 'shellcheck', 'hadolint', 'kubectl', 'kubernetes-validate'];
  const nothing = Object.fromEntries(tools.map((tool) => [tool, 'exit 0']));
  const bin = makeBin('tools/bin', ['basename', 'mktemp', 'rm'], nothing);
  const versions = ['requirements.txt', 'tools.sh'].map((file) => readFileSync(join(root, '.github', file)));
  writeFileSync(join(bin, '../versions'), Buffer.concat(versions));
  function lint(files: Record<string, string>) {
    const clone = mkdtempSync(join(folder, 'clone-'));
    execFileSync('git', ['init', '--quiet', clone]);
    cpSync(join(root, '.github'), join(clone, '.github'), { recursive: true });
    for (const [file, text] of Object.entries(files)) writeFileSync(join(clone, file), text);
    const env = { PATH: bin, HOME: bin, PIPELINE_TOOLS: join(bin, '..') };
    return spawnSync(join(clone, '.github/lint.sh'), { encoding: 'utf8', env });
  }

  test('finds nothing where there is nothing', () => {
    const { status, stdout, stderr } = lint({});
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^lint: .*: nothing found\n$/);
  });

  // In two parts, so that this file has none.
  test.each([
    ['-----BEGIN OPENSSH PRIVATE', ' KEY-----\nabc'],
    ['-----BEGIN PRIVATE', ' KEY-----'],
    ['AWS_ACCESS_KEY_ID=AKIA', 'Z3M5Q7P2K4X6R7TB'],
    ['token: "ghp_', `${'0aZ'.repeat(12)}"`],
    ['github_pat_', `${'0aZ_'.repeat(20)}0a`],
    ['NPM=npm_', '0aZ'.repeat(12)],
    ['glpat-', '0aZ-'.repeat(5)],
    ['stripe = sk_live_', '0aZ'.repeat(8)],
    ['maps?key=AIza', '0aZ_-'.repeat(7)],
    ['xoxb-', '123456789012-abcDEF34'],
  ])('names a file with a secret, and does not print it: %s', (begin, end) => {
    const { status, stderr } = lint({ 'notes.txt': `one line\n${begin}${end}\n`, 'harmless.txt': begin });
    expect({ status, stderr }).toEqual({ status: 1, stderr: 'lint: secrets\nnotes.txt\n' });
  });
});

describe('npm run ci', () => {
  const bin = makeBin('fakes', ['jq', 'mktemp', 'rm', 'sed', 'xargs'], {
    act: 'echo "$*"; env',
    docker: 'case $1 in version) echo amd64 ;; esac',
  });
  /** Runs it in a clone with a stand-in for act; returns what that was given. */
  function ci(origin: string, args: string[] = [], env: NodeJS.ProcessEnv = {}) {
    const clone = mkdtempSync(join(folder, 'clone-'));
    execFileSync('git', ['init', '--quiet', clone]);
    if (origin) execFileSync('git', ['remote', 'add', 'origin', origin], { cwd: clone });
    cpSync(join(root, '.github'), join(clone, '.github'), { recursive: true });
    const { status, stdout, stderr } = spawnSync(join(clone, '.github/ci.sh'), args, {
      encoding: 'utf8',
      env: { PATH: bin, HOME: bin, REGISTRY: 'localhost:1', ACT_BINARY: join(bin, 'act'), ...env },
    });
    return { status, stdout, stderr };
  }

  test.each([
    ['https://github.com/Owner/Some_Name.js.git', 'Owner/Some_Name.js'],
    ['https://token@github.com/owner/name/', 'owner/name'],
    ['git@github.com:Owner/name.git', 'Owner/name'],
    ['ssh://git@github.com/owner/name', 'owner/name'],
    ['ssh://git@git.example.org:2222/group/sub/name.git', 'local/service'],
    ['../other folder', 'local/service'],
    ['', 'local/service'],
  ])('names the images of a clone from "%s"', (origin, name) => {
    expect(ci(origin).stdout).toContain(` --env GITHUB_REPOSITORY=${name} `);
  });

  test('gives the jobs no setting of the app and nothing of npm or of a runner', () => {
    const foreign = { LISTEN: '1', REDIS_URL: 'redis://a', npm_config_x: '1', GITHUB_REF: 'refs/heads/x' };
    const { stdout } = ci('', [], { ...foreign, OTHER: 'kept' });
    expect(stdout).toMatch(/^OTHER=kept$/m);
    expect(stdout).not.toMatch(/^(LISTEN|REDIS_URL|npm_config_x|GITHUB_REF)=/m);
  });

  test("hands act's options on, and refuses what it does not know", () => {
    expect(ci('', ['tag', 'v1.2.3', '--job', 'gate']).stdout).toMatch(/^push .* --job gate$/m);
    expect(ci('', ['pull_request', '--job', 'test']).stdout).toMatch(/^pull_request .* --job test$/m);
    for (const args of [['release'], ['tag'], ['tag', '1.2.3']])
      expect(ci('', args)).toMatchObject({ status: 1, stderr: expect.stringMatching(/^ci: usage: /) });
  });
});

describe('the weekly scan', () => {
  /** A finding as grype prints it. */
  const match = (id: string, severity: string) => ({
    vulnerability: { id, severity, fix: { versions: ['3.0.2'], state: 'fixed' } },
    artifact: { name: 'libssl3', version: '3.0.1' },
  });
  /** Runs it with stand-ins for the registry, grype and GitHub; returns what was asked of GitHub. */
  function scan(name: string, matches: object[], open = '') {
    const home = join(folder, name);
    const bin = makeBin(join(name, 'go/bin'), ['jq', 'tr', 'tee'], {
      docker: `case $* in
        *--raw*) echo '{"manifests": [{"digest": "sha256:b", "platform": {"architecture": "amd64"}}]}' ;;
        *inspect*:latest) echo "$*: not found" >&2; exit 1 ;;
        *inspect*) echo '{"digest": "sha256:a"}' ;;
        *) echo "$IMAGE" >>${home}/listed ;;
      esac`,
      go: `[ "$1" = install ] || echo ${home}/go`,
      gh: `if [ "$2" = list ]; then echo ${open}; else echo "$*" >>${home}/asked; fi`,
      grype: `[ -z "$GH_TOKEN" ] && echo '${JSON.stringify({ matches })}'`,
    });
    const env = { PATH: bin, HOME: bin, ARCH: 'amd64', GITHUB_SHA: 'none', GH_TOKEN: 'secret' };
    const { status, stderr } = spawnSync(join(root, '.github/pipeline.sh'), ['scan'], {
      encoding: 'utf8',
      env: { ...env, REGISTRY: 'localhost:1', GITHUB_REPOSITORY: 'owner/name' },
    });
    const read = (file: string) =>
      existsSync(join(home, file)) ? readFileSync(join(home, file), 'utf8') : '';
    return { status, stderr, listed: read('listed'), asked: read('asked') };
  }
  const line = (image: string) => `\n- ${image}:edge: libssl3 3.0.1, CVE-1, fixed in 3.0.2`;
  const lines = ['app', 'nginx', 'redis'].map(line).join('');
  const found = [match('CVE-1', 'High'), match('CVE-1', 'High'), match('CVE-2', 'Low')];

  test('reads the list of each image that there is, and opens an issue with what is serious', () => {
    const { listed, ...rest } = scan('scan-found', found);
    const asked = `issue create --title Known vulnerabilities in the images --body ${lines}`;
    expect(rest).toEqual({ status: 0, stderr: '', asked: `${asked}\n` });
    const images = ['candidate', 'nginx', 'redis'];
    expect(listed.split('\n').filter(Boolean)).toHaveLength(images.length);
    expect(listed).toContain('localhost:1/owner/name/nginx@sha256:b\n');
  });

  test('keeps to the issue that is open, and closes it when nothing is found', () => {
    expect(scan('scan-again', found, '7').asked).toMatch(/^issue edit 7 --body \n- app:edge/);
    expect(scan('scan-gone', [match('CVE-2', 'Low')], '7').asked).toBe('issue close 7\n');
    expect(scan('scan-nothing', []).asked).toBe('');
  });

  test('is red, and says nothing, when the list cannot be read', () => {
    expect(scan('scan-broken', null as never)).toMatchObject({ status: 5, asked: '' });
  });
});
