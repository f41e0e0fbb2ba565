import { afterEach, expect, test } from '@jest/globals';
import type { Entry, History } from '../../../src/dashboard/history.ts';
import { Live } from '../../../src/dashboard/live.ts';
import { type Figure, type LivePlot, live } from '../../../src/plots.ts';
import { openEvents } from '../../support/events.ts';
import { stopAll } from '../../support/processes.ts';
import { waitFor } from '../../support/wait.ts';
import { serve } from './serve.ts';

afterEach(stopAll);

const figure: Figure = { mark: 'line' };
const now = () => Math.floor(Date.now() / 1_000);

/** Reports of workers: of each second from `first` seconds ago on. */
function createReports(
  reports: { worker: string; ago: number; sample: unknown; version?: string }[],
): History {
  const second = now();
  const entries = reports.map(({ worker, ago, sample, version = 'this' }, i): Entry => {
    const text = JSON.stringify({ worker, second: second - ago, samples: { a: sample }, version });
    return { id: String(i + 1), text };
  });
  return { async append() {}, after: async (id) => entries.filter((entry) => Number(entry.id) > Number(id)) };
}

async function rowsOf(options: object, history: History, points?: number) {
  const plot = live({ name: 'a', title: '', sample: () => 1, figure, ...options }) as LivePlot;
  const read = new Live({ history, version: 'this' });
  await read.update();
  await read.update();
  return read.rows(plot, 0, points);
}

test('the samples of all workers are one row each, with their time, where the figure says nothing else', async () => {
  const reports = [
    { worker: 'x:1', ago: 5, sample: 7 },
    { worker: 'x:2', ago: 5, sample: { orders: 8 } },
  ];
  const { columns } = await rowsOf({}, createReports(reports));
  const time = columns.time?.[0] as number;
  expect(columns).toEqual({
    time: [time, time],
    worker: ['x:1', 'x:2'],
    value: [7, null],
    orders: [null, 8],
  });
  expect(Math.abs(Date.now() - 5_000 - time)).toBeLessThan(3_000);
});

test('`rows` merges the samples of one second', async () => {
  const reports = [4, 5].flatMap((ago) => ['x:1', 'x:2'].map((worker) => ({ worker, ago, sample: ago })));
  const rows = (samples: Map<string, number>) => [{ sum: [...samples.values()].reduce((a, b) => a + b) }];
  expect((await rowsOf({ rows }, createReports(reports))).columns.sum).toEqual([10, 8]);
});

test('seconds that have not ended, and those of more than 15 minutes ago, are left out', async () => {
  const reports = [0, 1, 4, 899, 903].map((ago) => ({ worker: 'x:1', ago, sample: ago }));
  expect((await rowsOf({}, createReports(reports))).columns.value).toEqual([899, 4]);
});

test('a figure is thinned to what its width can show, and to 20,000 rows', async () => {
  const reports = Array.from({ length: 800 }, (_, i) => ({ worker: 'x:1', ago: 5 + i, sample: 1 }));
  expect((await rowsOf({}, createReports(reports))).count).toBe(800);
  expect((await rowsOf({}, createReports(reports), 400)).count).toBe(400);
  const rows = () => Array.from({ length: 40 }, (_, i) => ({ i }));
  expect((await rowsOf({ rows }, createReports(reports))).count).toBe(16_000);
  const many = () => Array.from({ length: 60 }, (_, i) => ({ i }));
  expect((await rowsOf({ rows: many }, createReports(reports))).count).toBe(267 * 60);
});

test('what another version of the code measured in another shape is a gap, and a mistake of this one is an error', async () => {
  const rows = (samples: Map<string, { list: number[] }>) =>
    [...samples.values()].map(({ list }) => ({ first: list.map((one) => one)[0] as number }));
  const good = { worker: 'x:1', ago: 4, sample: { list: [3] } };
  const old = { worker: 'x:1', ago: 9, sample: 3, version: 'other' };
  expect((await rowsOf({ rows }, createReports([old, good]))).columns.first).toEqual([3]);
  await expect(rowsOf({ rows }, createReports([good, { ...old, version: 'this' }]))).rejects.toThrow(
    'undefined',
  );
});

test('a viewer gets the version first, then a frame each second with the last seconds', async () => {
  let count = 0;
  const plots = [
    live({ name: 'a', title: '', sample: () => ++count, figure }),
    live({
      name: 'broken',
      title: '',
      sample: () => 1,
      rows: () => {
        throw new Error('no');
      },
      figure,
    }),
  ];
  const { port, read } = await serve(plots);
  const { find, frames, close } = await openEvents({ port }, '/dashboard/events');
  const { data } = await find((frame) => frame.data.live?.a.time?.length === 3, 'three seconds');
  expect(frames[0]).toMatchObject({
    event: 'hello',
    data: { version: (await read('plots.json')).body.version },
  });
  expect(data.live.a.time).toEqual([2, 1, 0].map((ago) => (data.second - ago) * 1_000));
  expect(data.live.broken).toBeUndefined();
  expect((await read('figures/broken.json')).status).toBe(500);
  close();
});

test('a sample that throws is logged once, and the other figures go on', async () => {
  const broken = () => {
    throw new Error('cannot be measured');
  };
  const plots = [
    live({ name: 'a', title: '', sample: broken, figure }),
    live({ name: 'b', title: '', sample: () => 1, figure }),
  ];
  const { read, logged } = await serve(plots);
  await waitFor(async () => (await read('figures/b.json')).body.count > 1, 'two seconds');
  expect(logged.map(({ err }) => err.message)).toEqual(['cannot be measured']);
});

test('while the history cannot be reached, a viewer is told so and a figure is answered 503', async () => {
  const redis = { key: 'k', command: () => Promise.reject(new Error('gone')) };
  const { port, read } = await serve([live({ name: 'a', title: '', sample: () => 1, figure })], { redis });
  expect((await read('plots.json')).body.instance).toBe('all');
  expect(await read('figures/a.json')).toMatchObject({
    status: 503,
    body: { error: { message: 'what was measured cannot be read now' } },
  });
  const { find } = await openEvents({ port }, '/dashboard/events');
  await find(({ event }) => event === 'away', 'the news');
});

test.each(['0', '-1', 'x', '100000', '1.5'])('points=%s is refused', async (points) => {
  const { read } = await serve([live({ name: 'a', title: '', sample: () => 1, figure })]);
  expect(await read(`figures/a.json?points=${points}`)).toMatchObject({ status: 400 });
});
