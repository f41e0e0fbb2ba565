import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { parseSync } from '@swc/core';
import { root, stopAll, temporaryDirectory } from '../support/processes.ts';
import { git } from '../support/repository.ts';

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

const importing = (what: string, from: string) => `import ${what} from '${from}';\n`;

describe("what Biome's rules hold (biome.json)", () => {
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
    ['src/contract.ts', 'noRestrictedImports', importing('type { Own }', './app/own.ts')],
    ['src/plots.ts', 'noRestrictedImports', importing('type { Own }', './server/own.ts')],
    ['src/app/own-f.ts', 'noRestrictedImports', importing('* as own', '../dashboard/rows.ts')],
    ['src/dashboard/own-a.ts', 'noRestrictedImports', importing('* as own', '../app/routes.ts')],
    ['src/dashboard/own-b.ts', 'noRestrictedImports', importing('type { Own }', '../server/retry.ts')],
    ['src/app/own-e.ts', 'noProcessEnv', 'export const home = process.env.HOME;\n'],
    ['src/server/own-a.ts', 'noRestrictedImports', importing('* as own', '../app/routes.ts')],
    ['src/server/own-b.ts', 'noRestrictedImports', importing('type { Own }', '../app/deeper/own.ts')],
    ['src/server/own-c.ts', 'noRestrictedImports', "export const own = () => import('../app/routes.ts');\n"],
    ['src/server/own-d.ts', 'noProcessEnv', 'export const home = process.env.HOME;\n'],
    ['src/server/own-f.ts', 'noImportCycles', importing('* as own', './own-g.ts')],
    ['src/server/own-g.ts', 'noImportCycles', importing('* as own', './own-f.ts')],
    ['src/main.ts', 'noRestrictedImports', importing('* as own', './app/routes.ts')],
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
      'src/server/own-a.ts': `${imports}export const door = { ${door} };\n`,
      'src/main.ts': `${importing('{ readConfig }', './server/config.ts')}readConfig(process.env);\n`,
      'src/app/own-a.ts': "import './deeper/own-a.ts';\n",
      'src/app/deeper/own-a.ts': `${importing('type { Log }', '../../contract.ts')}export type Own = Log;\n`,
      'src/app/model.ts': `${importing('{ fit }', 'fit')}export const model = fit([]);\n`, // to jest, the only test
    };
    expect(lint(files)).toEqual([]);
  });
});

test('the whole of src is reached from main.ts, or from the script of the page', () => {
  const kinds = { types: true, later: true };
  const reached = reach('src/dashboard/browser/dashboard.ts', kinds, reach('src/main.ts', kinds));
  expect([...sources.keys()].filter((file) => !file.endsWith('.d.ts') && !reached.has(file))).toEqual([]);
});

test('no file is reached from itself, types included', () => {
  const kinds = { types: true, later: true };
  const local = (file: string) =>
    importsOf(file, kinds)
      .filter((name) => name.startsWith('.'))
      .map((name) => join(dirname(file), name));
  const circles = [...sources.keys()].filter((file) =>
    local(file).some((imported) => reach(imported, kinds).has(file)),
  );
  expect(circles).toEqual([]);
});

test('the shortest service that satisfies the contract compiles with all that is kept', () => {
  const folder = temporaryDirectory();
  cpSync('src', join(folder, 'src'), { recursive: true });
  for (const file of ['package.json', 'tsconfig.json']) cpSync(file, join(folder, file));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const app = join(folder, 'src/app');
  rmSync(app, { recursive: true });
  mkdirSync(app);
  const type = (name: string) => importing(`type { ${name} }`, '../contract.ts');
  const files = {
    'settings.ts': 'export const appSettings = {};\n',
    'primary.ts': `${type('OpenPrimary')}export const openPrimary: OpenPrimary = () => () => {};\n`,
    'service.ts': `${importing('Router', '@koa/router')}${type('OpenService')}
      export const openService: OpenService = async () => (
        { router: new Router(), async ready() {}, drain() {}, async close() {} });\n`,
  };
  for (const [file, text] of Object.entries(files)) writeFileSync(join(app, file), text);
  const { stdout } = spawnSync(join(root, 'node_modules/.bin/tsc'), ['--noEmit'], {
    cwd: folder,
    encoding: 'utf8',
  });
  expect(stdout).toBe('');
});

/** The functions of a file that have more lines than this, with their first line; not those that group tests. */
function longFunctions(file: string, most: number): string[] {
  const text = readFileSync(file, 'utf8').trimEnd();
  const module = parseSync(text, { syntax: 'typescript' });
  const bytes = Buffer.from(text);
  const base = module.span.end - bytes.length; // positions are in bytes, and go on from file to file
  const lineOf = (position: number) =>
    bytes
      .subarray(0, position - base)
      .toString()
      .split('\n').length;
  const found: string[] = [];
  const groups = new Set<number>(); // where functions begin that describe() is given
  JSON.stringify(module, (_, node) => {
    let callee = node?.callee;
    while (callee?.callee ?? callee?.object) callee = callee.callee ?? callee.object; // describe.each(…)(…)
    if (callee?.value === 'describe') {
      for (const { expression } of node.arguments) groups.add(expression.span?.start);
    }
    if (
      /^(Function(?!Body)|Arrow|Constructor|ClassMethod|PrivateMethod|MethodProperty)/.test(node?.type ?? '')
    ) {
      const { start, end } = node.span ?? node.function.span;
      const lines = lineOf(end) - lineOf(start) + 1;
      if (lines > most && !groups.has(start)) found.push(`${file}:${lineOf(start)}: ${lines} lines`);
    }
    return node;
  });
  return found;
}

test('no function is longer than 50 lines', () => {
  expect([...sources.keys()].flatMap((file) => longFunctions(file, 50))).toEqual([]);
});

test('no function of the tests is longer than 70 lines', () => {
  const files = git(root, 'ls-files', 'test/**.ts').split('\n');
  expect(files.length).toBeGreaterThan(50);
  expect(files.flatMap((file) => longFunctions(file, 70))).toEqual([]);
});

test.each(['on', 'once', 'exit', 'exitCode', 'argv'])('process.%s appears in main.ts only', (member) => {
  const pattern = new RegExp(`\\bprocess\\.${member}\\b`);
  const files = [...sources].filter(([, text]) => pattern.test(text)).map(([file]) => file);
  expect(files.filter((file) => file !== 'src/main.ts')).toEqual([]);
});

test('every process loads pino and what openPrimary needs; throng comes later, into the primary alone', () => {
  const kinds = { types: false, later: false };
  const ofApp = packagesOf(reach('src/app/primary.ts', kinds));
  const loaded = packagesOf(reach('src/main.ts', kinds));
  expect(loaded.filter((name) => !ofApp.includes(name))).toEqual(['pino']);
});

test('nothing in src knows of tests or of what it is run by', () => {
  const knowing = [...sources].filter(([, text]) =>
    /NODE_ENV|JEST|\bdocker|vscode|GITHUB_|\bCI\b/i.test(text),
  );
  expect(knowing.map(([file]) => file)).toEqual([]);
});
