import { afterEach, describe, expect, test } from '@jest/globals';
import { checkbox, dates, multiSelect, number, plot, select, slider, text } from '../../../src/plots.ts';
import { stopAll } from '../../support/processes.ts';
import { serve } from './serve.ts';

afterEach(stopAll);

const controls = {
  species: select(['all', 'Adelie'], { label: 'Species' }),
  islands: multiSelect({ b: 'Biscoe', d: 'Dream' }, { value: ['d'] }),
  step: slider({ min: 50, max: 500, step: 50, value: 200 }),
  size: number({ value: -1.5 }),
  name: text({ maxLength: 3 }),
  alive: checkbox({ value: true }),
  when: dates({ min: '2020-01-01', max: '2020-12-31' }),
  later: select(async () => ['first', 'second'], { value: 'second' }),
};
/** Shows which values its controls have. */
const figure = plot({
  name: 'values',
  title: 'Values',
  controls,
  rows: (values) => [{ values: JSON.stringify(values) }],
  figure: { mark: 'bar' },
});

async function valuesFor(
  query: string,
): Promise<{ status: number; values?: Record<string, unknown>; error?: string }> {
  const { read } = await serve([figure]);
  const { status, body } = await read(`figures/values.json?${query}`);
  return status === 200
    ? { status, values: JSON.parse(body.columns.values[0]) }
    : { status, error: body.error.message };
}

test('the page learns of each control, and choices are asked', async () => {
  const { read } = await serve([figure]);
  const [described] = (await read('plots.json')).body.plots;
  const byName = Object.fromEntries(
    described.controls.map((control: { name: string }) => [control.name, control]),
  );
  expect(byName).toMatchObject({
    species: {
      type: 'select',
      label: 'Species',
      value: 'all',
      choices: [{ value: 'all', text: 'all' }, { value: 'Adelie' }],
    },
    islands: {
      type: 'multiSelect',
      label: 'islands',
      value: ['d'],
      choices: [{ value: 'b', text: 'Biscoe' }, { value: 'd' }],
    },
    step: { type: 'slider', min: 50, max: 500, step: 50, value: 200 },
    size: { type: 'number', value: -1.5 },
    name: { type: 'text', value: '', maxLength: 3 },
    alive: { type: 'checkbox', value: true },
    when: {
      type: 'dates',
      min: '2020-01-01',
      max: '2020-12-31',
      value: { from: '2020-01-01', to: '2020-12-31' },
    },
    later: { value: 'second', choices: [{ value: 'first' }, { value: 'second' }] },
  });
});

test('without a query each control has its own value', async () => {
  expect(await valuesFor('')).toEqual({
    status: 200,
    values: {
      species: 'all',
      islands: ['d'],
      step: 200,
      size: -1.5,
      name: '',
      alive: true,
      when: { from: '2020-01-01', to: '2020-12-31' },
      later: 'second',
    },
  });
});

describe('a right value', () => {
  test.each<[query: string, values: object]>([
    ['species=Adelie', { species: 'Adelie' }],
    ['islands=b&islands=d', { islands: ['b', 'd'] }],
    ['islands=', { islands: [] }],
    ['step=50', { step: 50 }],
    ['size=1e3', { size: 1000 }],
    ['name=%C3%A4%20%3D', { name: 'ä =' }],
    ['alive=false', { alive: false }],
    ['when.from=2020-02-29', { when: { from: '2020-02-29', to: '2020-12-31' } }],
    ['when.from=&when.to=', { when: { from: '', to: '' } }],
    ['later=first', { later: 'first' }],
  ])('%s', async (query, values) => {
    expect(await valuesFor(query)).toMatchObject({ status: 200, values });
  });
});

describe('a wrong value is refused, and the answer says what would be right', () => {
  test.each<[query: string, error: string]>([
    ['species=Gentoo', 'species is "Gentoo"; right would be one of all, Adelie'],
    ['species=all&species=Adelie', 'species is "all", "Adelie"; right would be one value'],
    ['islands=x', 'islands is "x"; right would be some of b, d'],
    ['step=49', 'step is "49"; right would be a number from 50 to 500'],
    ['step=501', 'step is "501"; right would be a number from 50 to 500'],
    ['size=', 'size is ""; right would be a number'],
    ['size=NaN', 'size is "NaN"; right would be a number'],
    ['size=Infinity', 'size is "Infinity"; right would be a number'],
    ['name=four', 'name is "four"; right would be a text of at most 3 characters'],
    ['alive=yes', 'alive is "yes"; right would be true or false'],
    ['when.to=2020-02-31', 'when.to is "2020-02-31"; right would be a day from 2020-01-01 to 2020-12-31'],
    ['when.to=2021-01-01', 'when.to is "2021-01-01"; right would be a day from 2020-01-01 to 2020-12-31'],
    ['when.from=2020-03-02&when.to=2020-03-01', 'right would be the earlier day first'],
    ['when=2020-01-01', 'there is no control "when"; the controls here: species, islands'],
    ['later=third', 'later is "third"; right would be one of first, second'],
    ['__proto__=1', 'there is no control "__proto__"'],
    ['points=3', 'there is no control "points"'],
  ])('%s', async (query, error) => {
    expect(await valuesFor(query)).toEqual({ status: 400, error: expect.stringContaining(error) });
  });
});

test('choices that cannot be asked: the page opens, and the figure says why', async () => {
  const choices = () => Promise.reject(new Error('no database'));
  const broken = plot({
    name: 'broken',
    title: '',
    controls: { of: select(choices) },
    rows: () => [],
    figure: { mark: 'bar' },
  });
  const { read } = await serve([broken, figure], { development: true });
  expect((await read('plots.json')).body.plots).toMatchObject([
    { controls: [{ choices: [] }] },
    { name: 'values' },
  ]);
  expect((await read('figures/broken.json')).body.error.message).toBe('no database');
});

describe('a table that cannot be right ends the start', () => {
  const named = (name: string, more = {}) =>
    plot({ name, title: '', controls: more, rows: () => [], figure: { mark: 'bar' } });
  test.each([
    [[named('Mass')], 'a plot is named "Mass"; right would be lower-case letters, digits and hyphens'],
    [[named('a'), named('a')], 'two plots are named a'],
    [[named('a', { points: checkbox() })], 'points, which is taken'],
    [
      [named('a', { of: slider({ min: 1, max: 9, value: 50 }) })],
      'of of a is 50; right would be a number from 1 to 9',
    ],
    [
      [named('a', { of: checkbox() }), named('b', { of: text() })],
      'the control of is a checkbox and, in b, a text',
    ],
  ])('%#', async (figures, message) => {
    await expect(serve(figures)).rejects.toThrow(message);
  });
});
