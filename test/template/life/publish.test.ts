/** The door `devcontainer templates apply`: what is published comes out as it was, wherever it is applied. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Registry, startRegistry } from '../../pipeline/registry.ts';
import { stopAll, temporaryDirectory } from '../../support/processes.ts';
import { cloneWorkingTree, git } from '../../support/repository.ts';
import { expectSame, filesIn, travelling } from './travel.ts';

const namespace = 'some-owner/some-repository';
const { name, template } = JSON.parse(readFileSync('package.json', 'utf8'));
let registry: Registry;
let clone: string;

beforeAll(() => {
  registry = startRegistry();
  clone = join(temporaryDirectory(), 'clone');
  cloneWorkingTree(clone);
  publish();
}, 120_000);
afterAll(async () => {
  registry.stop();
  await stopAll();
});

function publish(): void {
  execFileSync('test/template/publish.sh', [registry.address, namespace], {
    env: { ...process.env, GIT_DIR: join(clone, '.git') },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}

function apply(directory: string): void {
  const id = `${registry.address}/${namespace}/${name}`;
  const args = ['devcontainer', 'templates', 'apply', '--workspace-folder', directory, '--template-id', id];
  execFileSync('npx', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

test('it has the tags of its version', async () => {
  const [major, minor] = template.version.split('.');
  const tags = Object.keys(await registry.tags(`${namespace}/${name}`));
  expect(tags.sort()).toEqual([major, `${major}.${minor}`, template.version, 'latest'].sort());
});

test('applied to a new folder with an awkward name, every file is there as it was, and passes the checks', () => {
  const directory = join(temporaryDirectory(), '.Mein Dienst für Éva');
  mkdirSync(directory);
  apply(directory);
  const travels = travelling(clone).filter((path) => path !== 'README.md');
  expect(filesIn(directory)).toEqual([...travels, 'docs/README.md'].sort());
  expectSame(clone, directory, travels);

  git(directory, 'init', '--quiet', '--initial-branch', 'main');
  git(directory, 'add', '--all');
  const npm = (...args: string[]) =>
    execFileSync('npm', args, { cwd: directory, stdio: ['ignore', 'pipe', 'pipe'] });
  npm('ci', '--prefer-offline', '--no-audit', '--no-fund');
  npm('run', 'check');
  npm('test', '--', 'test/app/routes');
}, 240_000);

test('its README is a page of docs, and every link of it leads to a file', () => {
  const directory = temporaryDirectory();
  apply(directory);
  const page = join(directory, 'docs/README.md');
  const links = [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#:]+)\)/g)].map(
    ([, link]) => link as string,
  );
  expect(links.length).toBeGreaterThan(10);
  expect(links.filter((link) => !existsSync(join(dirname(page), link)))).toEqual([]);
}, 60_000);

test('applied to a repository, it leaves its README alone, and git shows what else was there', () => {
  const directory = temporaryDirectory();
  writeFileSync(join(directory, 'README.md'), 'mine\n');
  writeFileSync(join(directory, 'package.json'), '{ "name": "mine" }\n');
  writeFileSync(join(directory, 'main.ts'), '// mine\n');
  git(directory, 'init', '--quiet', '--initial-branch', 'main');
  git(directory, 'add', '--all');
  git(directory, 'commit', '--quiet', '--message', 'mine');
  apply(directory);
  expect(git(directory, 'diff', '--name-only')).toBe('package.json');
}, 60_000);

test('a binary file that would be broken is refused', () => {
  writeFileSync(join(clone, 'docs/picture.png'), Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0, 1]));
  git(clone, 'add', '--all');
  git(clone, 'commit', '--quiet', '--message', 'a picture');
  expect(publish).toThrow(/a binary file would be broken:\n.*docs\/picture\.png/);
}, 60_000);
