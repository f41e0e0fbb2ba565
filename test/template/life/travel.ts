/** What every door must let through: the files that `git archive` packs, as they are. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';

/** The paths of all files that travel from a clone, sorted. */
export function travelling(clone: string): string[] {
  const list = execFileSync('sh', ['-c', 'git archive HEAD | tar --list'], { cwd: clone, encoding: 'utf8' });
  return list
    .split('\n')
    .filter((path) => path && !path.endsWith('/'))
    .sort();
}

/** The paths of all files below a folder, sorted. */
export function filesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((path) => !statSync(join(directory, path)).isDirectory())
    .sort();
}

/** These files have the same content in both folders, and the same may be executed. */
export function expectSame(clone: string, directory: string, paths: string[]): void {
  for (const path of paths) {
    const [before, after] = [clone, directory].map((folder) => {
      const file = join(folder, path);
      return { path, text: readFileSync(file, 'utf8'), executable: statSync(file).mode & 0o111 };
    });
    expect(after).toEqual(before);
  }
}
