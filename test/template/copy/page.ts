/** A copy of the working tree whose service is the code of a page of docs, as it stands there. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cloneWorkingTree } from '../../support/repository.ts';

/** The blocks of a page that begin with the path of their file. */
export function readFiles(page: string): Map<string, string> {
  const blocks = readFileSync(page, 'utf8').matchAll(
    /^```\w*\n((?:\/\/|#) ((?:src|test)\/app\/[\w.-]+).*\n[\s\S]*?)^```$/gm,
  );
  return new Map([...blocks].map(([, text = '', path = '']) => [path, text]));
}

export interface Copy {
  folder: string;
  /** Runs a command there, and returns what it has written. @throws if it fails. */
  run(command: string, ...args: string[]): string;
  remove(): void;
}

/** `kept`: what the page says to keep of src/app and test/app. */
export function makeCopy(files: Map<string, string>, kept: string[]): Copy {
  const folder = mkdtempSync(join(tmpdir(), 'page-'));
  cloneWorkingTree(folder);
  for (const wing of ['src/app', 'test/app']) rmSync(join(folder, wing), { recursive: true });
  for (const path of kept) cpSync(path, join(folder, path), { recursive: true });
  for (const [path, text] of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, NO_COLOR: '1' };
  return {
    folder,
    run(command, ...args) {
      const { status, stdout, stderr } = spawnSync(command, args, { cwd: folder, encoding: 'utf8', env });
      const output = stdout + stderr;
      if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${output}`);
      return output;
    },
    remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}
