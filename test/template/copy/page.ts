/** A copy of the working tree whose service is the code of pages of docs, as it stands there. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cloneWorkingTree } from '../../support/repository.ts';

/** The blocks of a page that begin with the path of their file, by path. */
export function readFiles(page: string): Record<string, string> {
  const blocks = readFileSync(page, 'utf8').matchAll(
    /^```\w*\n((?:\/\/|#) ((?:src|test)\/app\/[\w.-]+).*\n[\s\S]*?)^```$/gm,
  );
  return Object.fromEntries([...blocks].map(([, text = '', path = '']) => [path, text]));
}

/** What a page asks to be typed to install and to prepare, line by line. */
export function readCommands(page: string): string[] {
  return [
    ...readFileSync(page, 'utf8').matchAll(/`(npm install [^`]*)`|^(np[mx] (?:install|json2csv) .*)$/gm),
  ].map(([, quoted, line]) => (quoted ?? line) as string);
}

export interface Copy {
  /** Its src/app and test/app are these files from now on, beside what is kept of the counter's. */
  replaceService(files: Record<string, string>, kept: string[]): void;
  /** Runs a command there, and returns what it has written. @throws if it fails. */
  run(command: string): string;
  remove(): void;
}

export function makeCopy(): Copy {
  const folder = mkdtempSync(join(tmpdir(), 'page-'));
  cloneWorkingTree(folder);
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, NO_COLOR: '1', npm_config_prefer_offline: 'true', npm_config_audit: 'false' };
  return {
    replaceService(files, kept) {
      for (const wing of ['src/app', 'test/app']) rmSync(join(folder, wing), { recursive: true });
      for (const path of kept) cpSync(path, join(folder, path), { recursive: true });
      for (const [path, text] of Object.entries(files)) {
        mkdirSync(dirname(join(folder, path)), { recursive: true });
        writeFileSync(join(folder, path), text);
      }
    },
    run(command) {
      const { status, stdout, stderr } = spawnSync(command, {
        shell: true,
        cwd: folder,
        encoding: 'utf8',
        env,
      });
      const output = stdout + stderr;
      if (status !== 0) throw new Error(`${command} ended with ${status}:\n${output}`);
      return output;
    },
    remove: () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }),
  };
}
