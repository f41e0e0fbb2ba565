import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

// What is kept must do for any app, so it says nothing of this one: no word of what it does, no name of what it exports.

const kept = [
  ...['src/main.ts', 'src/server', 'deploy', '.github', '.devcontainer', '.vscode'],
  ...['test/server', 'test/nginx', 'test/cluster', 'test/containers', 'test/faults', 'test/support'],
].filter(existsSync); // test/faults may have been left out
const door = ['service.ts', 'primary.ts', 'settings.ts'];

const filesIn = (path: string): string[] =>
  statSync(path).isFile()
    ? [path]
    : readdirSync(path, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => join(parentPath, name));

const exportsOf = (file: string): string[] =>
  [
    ...readFileSync(file, 'utf8').matchAll(
      /^export (?:async )?(?:function|const|class|interface|type) (\w+)/gm,
    ),
  ].map(([, name]) => name as string);

/** A name that the server has, too, is not the app's; one English word may stand in any sentence. */
const ofServer = new Set(filesIn('src/server').flatMap(exportsOf));
const names = filesIn('src/app')
  .filter((file) => file.endsWith('.ts') && !door.includes(file.replace('src/app/', '')))
  .flatMap(exportsOf)
  .filter((name) => !ofServer.has(name) && /[a-z][A-Z]/.test(name));

test('what is kept names neither what the app does nor anything that it exports', () => {
  expect(names).toContain('createCounter');
  const words = /(?<!')\b(?:counters?|visit(?:s|ed|ors?)?|hits?)\b/i;
  // In quotation marks `counter` is a type of Prometheus.
  const exported = new RegExp(`\\b(?:numberIn|${names.join('|')})\\b`);
  // The one place where kept tests ask the app's what a right answer is.
  const isJudge = (file: string, line: string) =>
    file === 'test/support/judgement.ts' && /^import .* from '\.\.\/app\//.test(line);
  const found = kept.flatMap(filesIn).flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .flatMap((line, i) =>
        (words.test(line) || exported.test(line)) && !isJudge(file, line)
          ? [`${file}:${i + 1}: ${line.trim()}`]
          : [],
      ),
  );
  expect(found).toEqual([]);
});
