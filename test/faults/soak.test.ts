import { afterEach, expect, test } from '@jest/globals';
import { residentMemory, rounds, startService } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { expectExact } from '../support/load.ts';
import { stopAll } from '../support/processes.ts';
import { delay } from '../support/wait.ts';

const minute = 60_000;
// A minute shows that nothing is lost; that memory does not grow takes long.
const long = process.env.FAULTS === 'long';
const seconds = long ? 600 : rounds(60);
const growthBar = long ? 0.1 : 1;
const recycledAfter = long ? 20_000 : rounds(5_000); // requests
const fewestRecycled = 3; // workers; a slow machine takes its time

afterEach(stopAll, minute);

test(
  '15: a soak at sixty per cent, with workers that are recycled, costs no request and no memory',
  async () => {
    const service = await startService({
      env: { MAX_REQUESTS: String(recycledAfter), MAX_REQUESTS_JITTER: String(recycledAfter / 4) },
    });
    const { app } = service;
    const full = service.startLoad();
    await delay(5_000);
    const { ok, seconds: took } = await full.stop();
    const rate = Math.round((0.6 * ok) / took);

    const load = service.startLoad({ rate });
    const begin = performance.now();
    const memory: number[] = [];
    const countRecycled = () =>
      app.log().filter(({ msg }) => /served its number of requests/.test(msg)).length;
    while (performance.now() - begin < seconds * 1_000 || countRecycled() < fewestRecycled) {
      const workers = app
        .workers()
        .map(residentMemory)
        .filter((bytes) => bytes > 0);
      const mean = workers.reduce((sum, bytes) => sum + bytes, 0) / workers.length;
      memory.push(residentMemory(app.pid) + mean);
      await delay(1_000);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    const average = (samples: number[]) => samples.reduce((sum, bytes) => sum + bytes, 0) / samples.length;
    const quarter = Math.floor(memory.length / 4); // the first warms up
    const growth = average(memory.slice(-quarter)) / average(memory.slice(quarter, 2 * quarter)) - 1;
    addRow({
      row: '15',
      fault: `${seconds} s at ${rate} requests a second, workers recycled each ${recycledAfter}`,
      load: report,
      restarts: countRecycled(),
      verdict,
      seen: `memory ${(100 * growth).toFixed(1)} % from the second quarter to the last`,
    });
    expectExact(report, verdict);
    expect(growth).toBeLessThan(growthBar);
  },
  seconds * 1_000 + 5 * minute,
);
