/** `test/template/release.sh` in a clone: what it refuses, the draft that it makes, and the signed tag. */
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { stopAll, temporaryDirectory } from '../../support/processes.ts';
import { cloneWorkingTree, git } from '../../support/repository.ts';

const key = join(temporaryDirectory(), 'key');
let clone: string;

beforeAll(() => {
  clone = join(temporaryDirectory(), 'clone');
  cloneWorkingTree(clone);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', `${key}.new`]);
  for (const [name, value] of Object.entries({
    'user.name': 'test',
    'user.email': 'test@localhost',
    'gpg.format': 'ssh',
    'user.signingKey': `${key}.pub`,
  }))
    git(clone, 'config', name, value);
  git(clone, 'remote', 'add', 'origin', 'git@github.com:some-owner/some-repository.git');
  git(clone, 'tag', 'v0.1.0');
  git(clone, 'commit', '--quiet', '--allow-empty', '--message', 'Answer faster');
});
afterAll(stopAll);

function release(...args: string[]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('test/template/release.sh', args, {
    cwd: clone,
    encoding: 'utf8',
  });
  return { code: status, output: stdout + stderr };
}
const read = (path: string) => readFileSync(join(clone, path), 'utf8');

test.each([
  ['what is no version', '1.2', 'usage: '],
  ['a version that is there', '0.1.0', '0.1.0 is not higher than the last version, v0.1.0'],
  ['a lower one', '0.0.9', '0.0.9 is not higher than the last version, v0.1.0'],
])('%s is refused', (_, version, reason) => {
  expect(release(version)).toEqual({ code: 1, output: expect.stringContaining(`release: ${reason}`) });
});

test('changes that are not committed, and another branch, are refused', () => {
  const before = read('package.json');
  writeFileSync(join(clone, 'package.json'), `${before}\n`);
  expect(release('9.2.0')).toEqual({ code: 1, output: expect.stringContaining('not committed') });
  writeFileSync(join(clone, 'package.json'), before);
  git(clone, 'switch', '--quiet', '--create', 'other');
  expect(release('9.2.0')).toEqual({ code: 1, output: expect.stringContaining('git switch main') });
  git(clone, 'switch', '--quiet', 'main');
});

test('a version that copies could not verify is refused; the reason says how they can', () => {
  const { code, output } = release('9.2.0');
  expect([code, output]).toEqual([1, expect.stringContaining('copies could not verify it')]);
  const [, make = 'false'] = /: (sed .*), and commit it/.exec(output) ?? [];
  execFileSync('sh', ['-c', make.replace('YOUR-PUBLIC-KEY', `${key}.pub`)], { cwd: clone });
  git(clone, 'add', '--all');
  git(clone, 'commit', '--quiet', '--message', 'Name who signs');
});

test('a draft of the changelog is made of the commits; once it is edited, the signed tag has it', () => {
  const commits = git(clone, 'rev-list', '--count', 'HEAD');
  expect(release('9.2.0')).toEqual({ code: 1, output: expect.stringContaining('has a draft for 9.2.0') });
  const [, draft] = /\n\n## 9\.2\.0\n\n([\s\S]*?)\n\n## /.exec(read('CHANGELOG.md')) ?? [];
  expect(draft).toBe('- Answer faster\n- Name who signs');
  expect(git(clone, 'rev-list', '--count', 'HEAD')).toBe(commits);

  writeFileSync(join(clone, 'CHANGELOG.md'), read('CHANGELOG.md').replace('- Answer', '- It answers'));
  expect(release('9.2.0')).toEqual({
    code: 0,
    output: expect.stringContaining('git push --atomic origin main v9.2.0'),
  });
  git(clone, '-c', 'gpg.ssh.allowedSignersFile=.github/allowed_signers', 'verify-tag', 'v9.2.0');
  const [subject, ...body] = git(clone, 'for-each-ref', '--format=%(contents)', 'refs/tags/v9.2.0').split(
    '\n',
  );
  expect(subject).toBe('v9.2.0');
  const changed = body.filter((line) => line.startsWith('- '));
  expect(changed).toEqual(['- It answers faster', '- Name who signs']); // and no version before
  expect(JSON.parse(git(clone, 'show', 'v9.2.0:package.json')).template).toEqual({
    repository: 'https://github.com/some-owner/some-repository.git',
    version: '9.2.0',
  });
  const changes = git(clone, 'diff', '--numstat', 'HEAD~1', 'v9.2.0').split('\n');
  expect(changes).toEqual(['5\t0\tCHANGELOG.md', '2\t2\tpackage.json']);
});

test('a new key signs one version after it is in the list', () => {
  const signWith = (path: string) => git(clone, 'config', 'user.signingKey', path);
  appendFileSync(join(clone, '.github/allowed_signers'), `* ${readFileSync(`${key}.new.pub`, 'utf8')}`);
  git(clone, 'commit', '--quiet', '--all', '--message', 'Trust a new key');
  const releaseAfterDraft = (version: string) => [release(version), release(version)][1];
  signWith(`${key}.new.pub`);
  expect(releaseAfterDraft('9.3.0')).toEqual({
    code: 1,
    output: expect.stringContaining('sign with a key of their list, v9.2.0:.github/allowed_signers'),
  });
  expect(git(clone, 'tag', '--list', 'v9.3.0')).toBe('');
  signWith(`${key}.pub`);
  expect(release('9.3.0')).toMatchObject({ code: 0 });
  signWith(`${key}.new.pub`);
  git(clone, 'commit', '--quiet', '--allow-empty', '--message', 'Answer faster still');
  expect(releaseAfterDraft('9.4.0')).toMatchObject({ code: 0 });
});
