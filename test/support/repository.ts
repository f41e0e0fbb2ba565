/** Copies of this repository for tests, which may change them at will. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { root, temporaryDirectory } from './processes.ts';

/** A copy of these files of the repository that a test may change, with the packages that are installed. */
export function copyRepository(...paths: string[]): string {
  const directory = temporaryDirectory();
  for (const path of [...paths, 'package.json']) {
    cpSync(join(root, path), join(directory, path), { recursive: true });
  }
  const packages = join(directory, 'node_modules');
  try {
    // Node.js 20 loads a package twice, by both of its paths, if CommonJS requires ES modules beyond a symbolic link.
    execFileSync('cp', ['-al', join(root, 'node_modules'), packages], { stdio: 'ignore' });
  } catch {
    rmSync(packages, { recursive: true, force: true }); // another file system
    symlinkSync(join(root, 'node_modules'), packages);
  }
  return directory;
}

/** Runs git, as an author of the tests' own; returns what it has written. */
export function git(directory: string, ...args: string[]): string {
  const author = ['-c', 'user.name=test', '-c', 'user.email=test@localhost', '-c', 'commit.gpgsign=false'];
  return execFileSync('git', [...author, ...args], { cwd: directory, encoding: 'utf8' }).trim();
}

/** Makes a new repository of what lies in the working tree, committed or not; one commit on main has it all. */
export function cloneWorkingTree(directory: string): void {
  mkdirSync(directory, { recursive: true });
  const files = git(root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0');
  for (const file of files) {
    // What Git knows may have been deleted.
    if (file && existsSync(join(root, file))) cpSync(join(root, file), join(directory, file));
  }
  git(directory, 'init', '--quiet', '--initial-branch', 'main');
  git(directory, 'add', '--all');
  git(directory, 'commit', '--quiet', '--message', 'copy');
}
