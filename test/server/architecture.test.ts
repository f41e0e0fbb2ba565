import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { root, stopAll, temporaryDirectory } from '../support/processes.ts';

afterEach(stopAll);

const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));

/** Each file of src with its text, without comments. */
const sources = new Map(
  filesIn('src')
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [
      file,
      readFileSync(file, 'utf8')
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/^\s*\/\/.*$/gm, ''),
    ]),
);

/** What a file imports: types only too, and later on too (`import()`). */
function importsOf(file: string, kinds: { types: boolean; later: boolean }): string[] {
  const text = sources.get(file) ?? '';
  const now = [...text.matchAll(/^(?:import|export)\s+(type\s)?(?:[^'(;=]*?\sfrom\s+)?'([^']+)'/gm)]
    .filter(([, type]) => kinds.types || !type)
    .map(([, , name]) => name as string);
  const later = kinds.later
    ? [...text.matchAll(/\bimport\('([^']+)'\)/g)].map(([, name]) => name as string)
    : [];
  return [...now, ...later];
}

/** All files that a file loads, itself included. */
function reach(
  file: string,
  kinds: { types: boolean; later: boolean },
  seen = new Set<string>(),
): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const name of importsOf(file, kinds)) {
    if (name.startsWith('.')) reach(join(dirname(file), name), kinds, seen);
  }
  return seen;
}

function packagesOf(files: Iterable<string>): string[] {
  const names = [...files].flatMap((file) => importsOf(file, { types: false, later: false }));
  return [...new Set(names.filter((name) => !/^(\.|node:)/.test(name)))].sort();
}

describe("what Biome's rules hold (biome.json)", () => {
  const lines = (count: number) => Array.from({ length: count }, (_, i) => `  call(${i});\n`).join('');

  const long = (count: number) => `export function own(call: (i: number) => void) {\n${lines(count)}}\n`;
  const importing = (what: string, from: string) => `import ${what} from '${from}';\n`;

  /** What Biome finds by the repository's rules in these files, which are added to the repository's own. */
  function lint(files: Record<string, string>): string[] {
    const folder = temporaryDirectory();
    cpSync('biome.json', join(folder, 'biome.json'));
    cpSync('src', join(folder, 'src'), { recursive: true });
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), text);
    }
    const { stdout, stderr, error } = spawnSync(
      join(root, 'node_modules/.bin/biome'),
      ['lint', '--vcs-enabled=false', '--max-diagnostics=none', ...Object.keys(files)],
      { cwd: folder, encoding: 'utf8' },
    );
    if (error) throw error;
    expect(stdout + stderr).toMatch(new RegExp(`^Checked ${Object.keys(files).length} files`, 'm'));
    return [...stderr.matchAll(/^(src\S+?):\d+:\d+ (lint\/\S+)/gm)].map(
      ([, file, rule]) => `${file}: ${rule}`,
    );
  }

  const bad: [file: string, rule: string, text: string][] = [
    ['src/app/own-a.ts', 'noRestrictedImports', importing('* as own', '../server/retry.ts')],
    ['src/app/own-b.ts', 'noRestrictedImports', importing('type { Config }', '../server/config.ts')],
    ['src/app/own-c.ts', 'noRestrictedImports', "export const own = () => import('../server/retry.ts');\n"],
    ['src/app/own-d.ts', 'noRestrictedImports', "import '../main.ts';\n"],
    ['src/app/deeper/own-a.ts', 'noRestrictedImports', importing('* as own', '../../server/retry.ts')],
    ['src/app/own-e.ts', 'noProcessEnv', 'export const home = process.env.HOME;\n'],
    ['src/app/own-f.ts', 'noExcessiveLinesPerFunction', long(71)],
    ['src/server/own-a.ts', 'noRestrictedImports', importing('* as own', '../app/routes.ts')],
    ['src/server/own-b.ts', 'noRestrictedImports', importing('type { Own }', '../app/deeper/own.ts')],
    ['src/server/own-c.ts', 'noRestrictedImports', "export const own = () => import('../app/routes.ts');\n"],
    ['src/server/own-d.ts', 'noProcessEnv', 'export const home = process.env.HOME;\n'],
    ['src/server/own-e.ts', 'noExcessiveLinesPerFunction', long(41)],
    ['src/server/own-f.ts', 'noImportCycles', importing('* as own', './own-g.ts')],
    ['src/server/own-g.ts', 'noImportCycles', importing('* as own', './own-f.ts')],
    ['src/main.ts', 'noRestrictedImports', `${importing('* as own', './app/routes.ts')}${long(41)}`],
    ['src/main.ts', 'noExcessiveLinesPerFunction', `${importing('* as own', './app/routes.ts')}${long(41)}`],
  ];

  let found: string[];
  beforeAll(() => {
    found = lint(Object.fromEntries(bad.map(([file, , text]) => [file, text])));
  });

  test.each(bad)('%s is found by %s', (file, rule) => {
    expect(found).toContainEqual(expect.stringMatching(`^${file}: lint/\\w+/${rule}$`));
  });

  test('the door is open, and nothing right is found', () => {
    const door = ['service', 'primary', 'settings'];
    const imports = door.map((name) => importing(`* as ${name}`, `../app/${name}.ts`)).join('');
    const files = {
      'src/server/own-a.ts': `${imports}export const door = { ${door} };\n${long(38)}`,
      'src/main.ts': `${importing('{ readConfig }', './server/config.ts')}readConfig(process.env);\n`,
      'src/app/own-a.ts': `import './deeper/own-a.ts';\n${long(68)}`,
      'src/app/deeper/own-a.ts': `${importing('type { Log }', '../service.ts')}export type Own = Log;\n`,
    };
    expect(lint(files)).toEqual([]);
  });
});

test('the whole of src is reached from main.ts', () => {
  const reached = reach('src/main.ts', { types: true, later: true });
  expect([...sources.keys()].filter((file) => !file.endsWith('.d.ts') && !reached.has(file))).toEqual([]);
});

test.each(['on', 'once', 'exit', 'exitCode', 'argv'])('process.%s appears in main.ts only', (member) => {
  const pattern = new RegExp(`\\bprocess\\.${member}\\b`);
  const files = [...sources].filter(([, text]) => pattern.test(text)).map(([file]) => file);
  expect(files.filter((file) => file !== 'src/main.ts')).toEqual([]);
});

test('the primary loads pino and throng, and what openPrimary needs', () => {
  const kinds = { types: false, later: false };
  const ofApp = packagesOf(reach('src/app/primary.ts', kinds));
  const loaded = packagesOf(reach('src/main.ts', kinds));
  expect(loaded.filter((name) => !ofApp.includes(name))).toEqual(['pino', 'throng']);
});

test('nothing in src knows of tests or of what it is run by', () => {
  const knowing = [...sources].filter(([, text]) =>
    /NODE_ENV|JEST|\bdocker|vscode|GITHUB_|\bCI\b/i.test(text),
  );
  expect(knowing.map(([file]) => file)).toEqual([]);
});
