/** What is done to packages when they are installed: which scripts run, and what deploy/Dockerfile deletes. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';

const folder = mkdtempSync(join(tmpdir(), 'packages-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const files = (of: string) =>
  readdirSync(of, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(of.length + 1));

test('the image leaves out declarations of types and source maps, and nothing else', () => {
  const [, command = ''] =
    /&& (find node_modules .* -delete)$/m.exec(readFileSync('deploy/Dockerfile', 'utf8')) ?? [];
  const all = [...files('node_modules'), 'docs/umd/main.js', 'docs/LICENSE.md', 'sitemap', 'cmd.ts'];
  for (const file of all) {
    mkdirSync(join(folder, 'node_modules', dirname(file)), { recursive: true });
    writeFileSync(join(folder, 'node_modules', file), '');
  }
  execFileSync('sh', ['-c', command], { cwd: folder });
  const left = new Set(files(join(folder, 'node_modules')));
  const gone = all.filter((file) => !left.has(file));
  expect(gone.length).toBeGreaterThan(1_000);
  expect(gone.filter((file) => !/\.(d\.[cm]?ts|map)$/.test(file))).toEqual([]);
});

test('the packages that have install scripts are those whose scripts npm may run', () => {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8'));
  const withScripts = Object.keys(packages).filter((path) => packages[path].hasInstallScript);
  expect(withScripts.map((path) => path.replace(/^.*node_modules\//, '')).sort()).toEqual(
    Object.keys(JSON.parse(readFileSync('package.json', 'utf8')).allowScripts).sort(),
  );
});
