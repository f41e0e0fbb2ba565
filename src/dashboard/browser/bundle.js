/**
 * Makes the dashboard's script and style sheet: `npm run bundle`. Their names have a hash of what is in them, so that a
 * browser keeps them for ever. Each has its compressed form beside it, which nginx and the app send.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, parse } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const folder = 'dist/dashboard/static';
const { outputFiles } = await build({
  entryPoints: ['dashboard.ts', 'dashboard.css'].map((file) => join(import.meta.dirname, file)),
  outdir: folder,
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  write: false,
});
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
for (const { path, contents } of outputFiles) {
  const { name, ext } = parse(path);
  const hash = createHash('sha256').update(contents).digest('hex').slice(0, 12);
  const file = join(folder, `${name}-${hash}${ext}`);
  writeFileSync(file, contents);
  writeFileSync(`${file}.gz`, gzipSync(contents, { level: 9 }));
}
