import { afterEach, describe, expect, test } from '@jest/globals';
import { type Figure, heading, plot, type Row, slider, table, text } from '../../../src/plots.ts';
import { stopAll } from '../../support/processes.ts';
import { serve } from './serve.ts';

afterEach(stopAll);

const mark: Figure = { mark: 'bar' };
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1);
const named = (name: string, rows: () => Row[] | Promise<Row[]>, more = {}) =>
  plot({ name, title: name, rows, figure: mark, ...more });

/** Rows that are there when `settle` is called; counts how often they were asked for. */
function createHeld() {
  const waiting: (() => void)[] = [];
  const held = {
    calls: 0,
    async rows(): Promise<Row[]> {
      held.calls += 1;
      await new Promise<void>((resolve) => waiting.push(resolve));
      return [{ a: held.calls }];
    },
    settle() {
      for (const resolve of waiting.splice(0)) resolve();
    },
  };
  return held;
}

test('the page learns of plots, tables and headings, in their order', async () => {
  const { read } = await serve([
    heading('First', 'words'),
    named('a', () => [], { text: 'why', width: 'whole', every: 5 }),
    table({ name: 'b', title: 'B', rows: () => [{ x: 1 }] }),
  ]);
  const { body, headers } = await read('plots.json');
  expect(body).toEqual({
    version: expect.stringMatching(/^[\w-]{16}$/),
    instance: 'this',
    plots: [
      { kind: 'heading', name: '', title: 'First', text: 'words', width: 'whole', controls: [] },
      { kind: 'plot', name: 'a', title: 'a', text: 'why', width: 'whole', every: 5, controls: [] },
      { kind: 'table', name: 'b', title: 'B', width: 'half', controls: [] },
    ],
  });
  expect(headers['cache-control']).toBe('no-store');
  expect((await read('figures/b.json')).body).toMatchObject({ spec: null, columns: { x: [1] }, count: 1 });
});

test('rows become columns; a value that a row lacks is null, and a Date milliseconds', async () => {
  const at = new Date('2026-11-28T10:00:00Z');
  const { read } = await serve([named('a', () => [{ a: 1, at }, { b: 'x', a: true }, { b: null }])]);
  expect((await read('figures/a.json')).body).toEqual({
    spec: mark,
    columns: { a: [1, true, null], at: [at.getTime(), null, null], b: [null, 'x', null] },
    count: 3,
    times: ['at'],
    at: expect.any(Number),
  });
});

test('the specification is that of the values', async () => {
  const { read } = await serve([
    plot({
      name: 'a',
      title: '',
      controls: { step: slider({ min: 1, max: 9, value: 2 }) },
      rows: () => [],
      figure: ({ step }) => ({ mark: 'bar', encoding: { x: { field: 'a', bin: { step } } } }),
    }),
  ]);
  expect((await read('figures/a.json?step=7')).body.spec.encoding.x.bin).toEqual({ step: 7 });
});

test('however many ask for the same, the rows are asked for once, and again for other values', async () => {
  const held = createHeld();
  const { read } = await serve([named('a', held.rows, { controls: { name: text(), more: text() } })]);
  const asked = upTo(30).map((i) => read(`figures/a.json?${i % 2 ? 'name=x&more=y' : 'more=y&name=x'}`));
  const other = read('figures/a.json?name=z');
  while (held.calls < 2) await new Promise(setImmediate);
  held.settle();
  const bodies = (await Promise.all(asked)).map(({ body }) => JSON.stringify(body));
  expect(new Set(bodies).size).toBe(1);
  await other;
  await read('figures/a.json?name=z'); // a moment later
  expect(held.calls).toBe(2);
});

test('at most four are computed at a time, a hundred wait, and the next one is answered 503', async () => {
  const held = createHeld();
  const { read } = await serve([named('a', held.rows, { controls: { name: text() } })]);
  const answers = upTo(120).map((i) => read(`figures/a.json?name=${i}`));
  const refused = await Promise.race(answers);
  expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '2' } });
  expect(refused.body.error.message).toBe('too many figures are asked for now; please try again');
  expect(held.calls).toBe(4);
  const settling = setInterval(held.settle, 1);
  const statuses = (await Promise.all(answers)).map(({ status }) => status);
  clearInterval(settling);
  expect(statuses.filter((status) => status === 503)).toHaveLength(16);
  expect(statuses.filter((status) => status === 200)).toHaveLength(104);
});

test('a worker gives a fifth of its time to figures, once those of a page are there', async () => {
  const work = 50; // milliseconds each
  const rows = () => {
    for (const end = performance.now() + work; performance.now() < end; );
    return [];
  };
  const { read } = await serve([named('a', rows, { controls: { name: text() } })]);
  const begin = performance.now();
  await Promise.all(upTo(4).map((i) => read(`figures/a.json?name=${i}`)));
  const page = performance.now() - begin;
  await Promise.all(upTo(6).map((i) => read(`figures/a.json?name=again${i}`)));
  expect(performance.now() - begin - page).toBeGreaterThan((5 * work) / 0.2 - 500);
});

test('a flood of requests for a figure that is known is refused in part, too', async () => {
  const { read } = await serve([named('a', () => [{ a: 1 }])]);
  const answers = await Promise.all(upTo(600).map(() => read('figures/a.json')));
  const statuses = answers.map(({ status }) => status);
  expect(new Set(statuses)).toEqual(new Set([200, 503]));
  expect(statuses.filter((status) => status === 200).length).toBeGreaterThanOrEqual(200);
});

test('20,000 rows are shown, and one more is refused with what to do', async () => {
  const rows = (count: number) => () => upTo(count).map((i) => ({ i }));
  const { read } = await serve([named('most', rows(20_000)), named('more', rows(20_001))]);
  expect((await read('figures/most.json')).body.count).toBe(20_000);
  const { status, body } = await read('figures/more.json');
  expect([status, body.error.message]).toEqual([
    413,
    'more has 20001 rows, and 20000 can be shown: aggregate them in rows, or let a control choose fewer',
  ]);
});

test('a field that no row has is named in development, unless the figure makes it', async () => {
  const of = (name: string, figure: Figure, rows: Row[] = [{ grams: 1, 'a.b': 2 }]) =>
    plot({ name, title: '', rows: () => rows, figure });
  const encoding = { x: { field: 'gramms' } };
  const transform = [{ calculate: 'datum.grams', as: 'gramms' }];
  const figures = [
    of('wrong', { layer: [{ mark: 'bar', encoding }] }),
    of('made', { mark: 'bar', encoding, transform }),
    of('none', { mark: 'bar', encoding }, []),
    of('dotted', { mark: 'bar', encoding: { x: { field: 'a\\.b' } } }),
  ];
  const { read } = await serve(figures, { development: true });
  expect((await read('figures/wrong.json')).body.error.message).toBe(
    'figure names the field gramms, which no row has; right would be one of grams, a.b',
  );
  for (const name of ['made', 'none', 'dotted']) {
    expect((await read(`figures/${name}.json`)).status).toBe(200);
  }
  const production = await serve(figures);
  expect((await production.read('figures/wrong.json')).status).toBe(200);
});

describe('what the code throws', () => {
  const broken = [
    named('thrown', () => {
      throw new Error('a mistake');
    }),
    named('rejected', async () => Promise.reject('no error at all')),
    named('wrong', () => 'text' as unknown as Row[]),
    named('huge', () => [{ a: 1n as unknown as number }]),
    plot({ name: 'figure', title: '', rows: () => [], figure: () => ({}) as never satisfies Figure }),
  ];

  test('is shown in development, elsewhere the id of the request alone; the stack is in the log once', async () => {
    for (const development of [true, false]) {
      const { read, logged } = await serve(broken, { development });
      const first = (await read('figures/thrown.json')).body.error;
      const again = (await read('figures/thrown.json?')).body.error;
      expect(again).toEqual(first);
      expect(first.message).toBe(development ? 'a mistake' : 'This figure cannot be computed now.');
      expect(logged).toEqual([
        expect.objectContaining({
          err: expect.objectContaining({ message: 'a mistake' }),
          request_id: first.requestId,
        }),
      ]);
    }
  });

  test('is an answer 500, whatever it is', async () => {
    const { read } = await serve(broken, { development: true });
    expect((await read('figures/rejected.json')).body.error.message).toBe('no error at all');
    expect((await read('figures/wrong.json')).body.error.message).toBe(
      'rows of wrong returned no array of records',
    );
    expect(await read('figures/huge.json')).toMatchObject({
      status: 500,
      body: { error: { message: /BigInt/ } },
    });
  });

  test('comes with the line of the owner', async () => {
    const error = new Error('here');
    error.stack =
      'Error: here\n    at rows (file:///work/src/app/plots.ts:12:34)\n    at x (node:internal:1:1)';
    const rows = () => Promise.reject(error);
    const { read } = await serve([named('a', rows)], { development: true });
    expect((await read('figures/a.json')).body.error.line).toBe('src/app/plots.ts:12');
    const deployed = await serve([named('a', rows)]);
    expect((await deployed.read('figures/a.json')).body.error.line).toBeUndefined();
  });

  test('with a status and `expose` is an answer of its own', async () => {
    const error = Object.assign(new Error('upload a file first'), { status: 409, expose: true });
    const { read, logged } = await serve([named('a', () => Promise.reject(error))]);
    expect(await read('figures/a.json')).toMatchObject({
      status: 409,
      body: { error: { message: error.message } },
    });
    expect(logged).toEqual([]);
  });
});

test('an answer that is known is not sent again', async () => {
  const { ask } = await serve([named('a', () => [{ a: 1 }])]);
  const first = await ask('/dashboard/figures/a.json');
  const headers = { 'If-None-Match': String(first.headers.etag) };
  expect(await ask('/dashboard/figures/a.json', { headers })).toMatchObject({ status: 304, body: '' });
  const { headers: csv } = await ask('/dashboard/figures/a.csv', { headers });
  expect(csv.etag).not.toBe(first.headers.etag);
});

describe('rows that are saved', () => {
  const rows = [
    { 'a "name"': 'x, "y"\nz', number: -1, at: new Date('2026-11-28T10:00:00Z') },
    { 'a "name"': '=HYPERLINK("http://evil")', number: 0.5, at: new Date('2026-11-28T11:00:00Z') },
    { 'a "name"': '+1' },
  ];

  test('as CSV: quotes are doubled, a formula is a text, a number is a number', async () => {
    const { ask } = await serve([named('a', () => rows)]);
    const { headers, body } = await ask('/dashboard/figures/a.csv');
    expect(headers['content-disposition']).toBe('attachment; filename="a.csv"');
    expect(headers['content-type']).toBe('text/csv; charset=utf-8');
    expect(body).toBe(
      '"a ""name""","number","at"\r\n' +
        '"x, ""y""\nz",-1,"2026-11-28T10:00:00.000Z"\r\n' +
        '"\'=HYPERLINK(""http://evil"")",0.5,"2026-11-28T11:00:00.000Z"\r\n' +
        '"\'+1",,\r\n',
    );
  });

  test('as JSON: a record for each row', async () => {
    const { read } = await serve([named('a', () => rows)]);
    const { headers, body } = await read('figures/a.rows.json');
    expect(headers['content-disposition']).toBe('attachment; filename="a.rows.json"');
    expect(body[0]).toEqual({ 'a "name"': 'x, "y"\nz', number: -1, at: '2026-11-28T10:00:00.000Z' });
    expect(body[2]).toEqual({ 'a "name"': '+1', number: null, at: null });
  });
});

test('what is not there is answered 404', async () => {
  const { ask } = await serve([named('a', () => [])]);
  for (const path of [
    'figures/b.json',
    'figures/a',
    'figures/a.xml',
    'figures/',
    'Plots.json',
    'static/x.js',
  ]) {
    expect([path, (await ask(`/dashboard/${path}`)).status]).toEqual([path, 404]);
  }
});

test('the page has relative links, and is at one address', async () => {
  const { ask } = await serve([]);
  const { body, headers } = await ask('/dashboard');
  expect(headers['content-type']).toBe('text/html; charset=utf-8');
  expect(body).not.toMatch(/(href|src)="\//);
  expect(await ask('/dashboard/')).toMatchObject({ status: 302, headers: { location: '../dashboard' } });
});
