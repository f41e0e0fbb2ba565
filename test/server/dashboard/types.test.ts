/** What the compiler says of tables of plots. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { root, stopAll, temporaryDirectory } from '../../support/processes.ts';

afterAll(stopAll);

const right = `
  plot({
    name: 'a',
    title: 'A',
    controls: {
      one: select(['x', 'y']), some: multiSelect(async () => ({ x: 'X' })), step: slider({ min: 1, max: 5, value: 2 }),
      size: number({ value: 3 }), words: text(), yes: checkbox(), when: dates(),
    },
    rows: async ({ one, some, step, size, words, yes, when }) => [
      { a: one.trim() + words.trim() + some.join(), b: step.toFixed() + size.toFixed(), yes, d: when.from, at: new Date() },
    ],
    figure: ({ step }) => ({ mark: 'bar', encoding: { x: { field: 'b', bin: { step } }, y: { aggregate: 'count' } } }),
  });
  plot({ name: 'b', title: '', rows: () => [], figure: { layer: [{ mark: 'line' }, { mark: { type: 'rule' } }] } });
  live({
    name: 'c', title: '', sample: () => ({ visits: 1 }),
    rows: (samples) => [...samples].map(([worker, { visits }]) => ({ worker, visits: visits.toFixed() })),
    figure: { mark: 'line' },
  });
  heading('d');
`;
const wrong = [
  "plot({ name: 'a', title: '', controls: { one: select([]) }, rows: ({ other }) => [], figure: { mark: 'bar' } });",
  "plot({ name: 'a', title: '', controls: { one: text() }, rows: ({ one }) => [{ a: one.toFixed() }], figure: { mark: 'bar' } });",
  "plot({ name: 'a', title: '', rows: () => [], figure: { mark: 'barr' } });",
  "plot({ name: 'a', title: '', rows: () => [{ a: [] }], figure: { mark: 'bar' } });",
  "live({ name: 'a', title: '', sample: () => 1, rows: (samples) => [...samples.keys()], figure: { mark: 'bar' } });",
  "table({ name: 'a', title: '' });",
];

test('right tables compile, and of the wrong ones each is found', () => {
  const file = join(temporaryDirectory(), 'plots.ts');
  const names = 'checkbox, dates, heading, live, multiSelect, number, plot, select, slider, table, text';
  const lines = wrong.map((line) => `// @ts-expect-error\n${line}\n`).join('');
  writeFileSync(file, `import { ${names} } from '${join(root, 'src/plots.ts')}';\n${right}\n${lines}`);
  const options = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2023'];
  const { stdout } = spawnSync(
    join(root, 'node_modules/.bin/tsc'),
    [
      ...options,
      '--allowImportingTsExtensions',
      '--exactOptionalPropertyTypes',
      '--types',
      'node',
      '--typeRoots',
      join(root, 'node_modules/@types'),
      '--ignoreConfig',
      file,
    ],
    { cwd: root, encoding: 'utf8' },
  );
  expect(stdout).toBe('');
});
