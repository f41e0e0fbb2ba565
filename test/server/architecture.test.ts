import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';

/** Each file of src with its text, without comments. */
const sources = new Map(
  readdirSync('src')
    .filter((file) => file.endsWith('.ts'))
    .map((file) => [
      file,
      readFileSync(`src/${file}`, 'utf8')
        .replace(/\/\*[\s\S]*?\*\//g, '')
        .replace(/^\s*\/\/.*$/gm, ''),
    ]),
);

/** What a file imports: types only too, and later on too (`import()`). */
function importsOf(file: string, kinds: { types: boolean; later: boolean }): string[] {
  const text = sources.get(file) ?? '';
  const now = [...text.matchAll(/^import\s+(type\s)?[^'(]*?'([^']+)'/gm)]
    .filter(([, type]) => kinds.types || !type)
    .map(([, , name]) => name as string);
  const later = kinds.later
    ? [...text.matchAll(/\bimport\('([^']+)'\)/g)].map(([, name]) => name as string)
    : [];
  return [...now, ...later];
}

const local = (names: string[]) => names.filter((name) => name.startsWith('./')).map((name) => name.slice(2));

/** All files that a file loads, itself included. */
function reach(
  file: string,
  kinds: { types: boolean; later: boolean },
  seen = new Set<string>(),
): Set<string> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const next of local(importsOf(file, kinds))) reach(next, kinds, seen);
  return seen;
}

test('the whole of src is reached from main.ts', () => {
  const reached = reach('main.ts', { types: true, later: true });
  expect([...sources.keys()].filter((file) => !file.endsWith('.d.ts') && !reached.has(file))).toEqual([]);
});

test.each(['env', 'on', 'once', 'exit', 'exitCode', 'argv'])(
  'process.%s appears in main.ts only',
  (member) => {
    const pattern = new RegExp(`\\bprocess\\.${member}\\b`);
    const files = [...sources].filter(([, text]) => pattern.test(text)).map(([file]) => file);
    expect(files.filter((file) => file !== 'main.ts')).toEqual([]);
  },
);

test('no file imports itself, by however many others', () => {
  const circular = [...sources.keys()].filter((file) =>
    local(importsOf(file, { types: true, later: true })).some((next) =>
      reach(next, { types: true, later: true }).has(file),
    ),
  );
  expect(circular).toEqual([]);
});

test('the primary loads neither the web framework nor the client of Redis', () => {
  const loaded = [...reach('main.ts', { types: false, later: false })].flatMap((file) =>
    importsOf(file, { types: false, later: false }).filter((name) => !/^(\.|node:)/.test(name)),
  );
  expect([...new Set(loaded)].sort()).toEqual(['pino', 'throng']);
});

test('the app and its routes know of the counter its type only', () => {
  for (const file of ['app.ts', 'routes.ts']) {
    expect(importsOf(file, { types: false, later: true })).not.toContain('./counter.ts');
    expect(importsOf(file, { types: true, later: true })).toContain('./counter.ts');
  }
});

test('nothing in src knows of tests or of what it is run by', () => {
  const knowing = [...sources].filter(([, text]) =>
    /NODE_ENV|JEST|\bdocker|vscode|GITHUB_|\bCI\b/i.test(text),
  );
  expect(knowing.map(([file]) => file)).toEqual([]);
});
