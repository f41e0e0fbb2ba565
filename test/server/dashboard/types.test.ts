/** What the compiler says of tables of plots. */
import { readFileSync } from 'node:fs';
import { afterAll, expect, test } from '@jest/globals';
import type { Plot } from '../../../src/plots.ts';
import { stopAll } from '../../support/processes.ts';
import { waitFor } from '../../support/wait.ts';
import { compile } from './compiled.ts';
import { serve } from './serve.ts';

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
    name: 'c', title: '', sample: () => ({ orders: 1 }),
    rows: (samples) => [...samples].map(([worker, { orders }]) => ({ worker, orders: orders.toFixed() })),
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
  const names = 'checkbox, dates, heading, live, multiSelect, number, plot, select, slider, table, text';
  const lines = wrong.map((line) => `// @ts-expect-error\n${line}\n`).join('');
  expect(compile(`import { ${names} } from '../plots.ts';\n${right}\n${lines}`).complaints).toBe('');
});

test('the example of docs/dashboard.md compiles, and shows what it says', async () => {
  const page = readFileSync('docs/dashboard.md', 'utf8');
  const [, code = ''] = /^```ts\n(import [\s\S]*?)^```$/m.exec(page) ?? [];
  const { file, complaints } = compile(code);
  expect(complaints).toBe('');
  const [create] = Object.values(await import(file)) as [(penguins: object[]) => Plot[]];
  const { read } = await serve(
    create([
      { species: 'Adelie', island: 'Dream', grams: 3_700 },
      { species: 'Gentoo', island: 'Biscoe', grams: 5_100 },
    ]),
  );
  expect((await read('figures/mass.json?species=Gentoo&step=500')).body).toMatchObject({
    spec: { encoding: { x: { bin: { step: 500 } } } },
    columns: { grams: [5_100] },
  });
  expect((await read('figures/penguins.json?islands=Dream')).body.columns.island).toEqual(['Dream']);
  await waitFor(async () => (await read('figures/memory.json')).body.columns.megabytes?.[0] > 10, 'a second');
});
