import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect } from '@jest/globals';
import { attempt, cloneRepository, execute, prepare, removeAll, scenario } from './engine.ts';

const targets = ['development', 'nginx-development', 'app', 'nginx', 'redis', 'single'];

let directory: string;
prepare(async () => {
  directory = cloneRepository('Clean.Checkout');
});
afterAll(removeAll, 60_000);

/** Builds a target; resolves to its steps that were not taken from the cache, as BuildKit prints them. */
async function build(target: string): Promise<string[]> {
  const output = await execute(
    'docker',
    ['build', '--progress', 'plain', '--file', 'deploy/Dockerfile', '--target', target, '.'],
    { cwd: directory },
  );
  const cached = new Set(Array.from(output.matchAll(/^#(\d+) CACHED$/gm), ([, step]) => step));
  return Array.from(output.matchAll(/^#(\d+) (\[.+?\] (?:RUN|COPY).*)$/gm))
    .filter(([, step]) => !cached.has(step))
    .map(([, , name]) => name as string);
}

scenario(
  'every image builds from a clean checkout; a change of the README, the tests or the dev container rebuilds nothing',
  async () => {
    for (const target of targets) await build(target);
    for (const file of ['README.md', 'test/tsconfig.json', '.devcontainer/devcontainer.json'])
      appendFileSync(join(directory, file), '\n');
    for (const target of targets) expect([target, ...(await build(target))]).toEqual([target]);
  },
);

scenario('a change of the source rebuilds only what follows it', async () => {
  appendFileSync(join(directory, 'src/main.ts'), `\nexport const changed = ${Date.now()};\n`); // never cached
  const rebuilt = await build('app');
  expect(rebuilt).toHaveLength(3);
  expect(rebuilt).toEqual([
    expect.stringMatching(/COPY src src$/),
    expect.stringMatching(/RUN npm run build$/),
    expect.stringMatching(/COPY --from=build /),
  ]);
  for (const target of ['nginx', 'redis', 'development'])
    expect([target, ...(await build(target))]).toEqual([target]);
});

scenario('packages come from the registry of NPMRC', async () => {
  appendFileSync(join(directory, 'package.json'), '\n'); // never cached
  const NPMRC = 'registry=http://127.0.0.1:1/\ncache=/tmp/empty\nfetch-retries=0\n';
  const build = ['compose', 'build', '--progress', 'plain', 'app'];
  expect(await attempt('docker', build, { cwd: directory, env: { NPMRC } })).toMatchObject({
    output: expect.stringContaining('ECONNREFUSED 127.0.0.1:1'),
  });
});
