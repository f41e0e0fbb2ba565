/** The examples of docs/dashboard.md are added to the table, and plotted. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../../support/app.ts';
import { root, stopAll } from '../../support/processes.ts';
import { copyRepository } from '../../support/repository.ts';
import { request } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';

afterEach(stopAll);

test('a plot of a few lines has a figure, a history and a choice', async () => {
  const copy = copyRepository('src', 'tsconfig.json');
  const file = join(copy, 'src/app/dashboard/plots.ts');
  const examples = [...readFileSync('docs/dashboard.md', 'utf8').matchAll(/^```ts\n([\s\S]*?)^```$/gm)];
  expect(examples).toHaveLength(2);
  const table = readFileSync(file, 'utf8');
  const entries = examples.map(([, code]) => code).join('');
  writeFileSync(file, table.replace('  return [\n', `  return [\n${entries}`));
  execFileSync(join(root, 'node_modules/.bin/tsc'), { cwd: copy });
  const app = await startApp({
    entry: join(copy, 'dist/main.js'),
    env: { WEB_CONCURRENCY: '2', DASHBOARD: 'true' },
  });
  const ask = async (path: string) => (await request(app.address, `/dashboard${path}`)).body;
  expect(await ask('')).toContain('Memory of each worker');
  const memory = await waitFor(async () => {
    const { lines } = JSON.parse(await ask('/memory.json'));
    return Object.keys(lines).length === 2 && (Object.values(lines) as number[][]);
  }, 'the memory of two workers');
  for (const line of memory) expect(line.at(-1)).toBeGreaterThan(20);
  expect(JSON.parse(await ask('/example.json')).lines.square).toEqual([0, 1, 4]);
  expect((await ask('/example.csv?choice=many')).trimEnd().split('\r\n')).toHaveLength(31);
});
