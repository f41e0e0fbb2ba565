import { afterEach, expect, test } from '@jest/globals';
import { delay, stopAll } from '../processes.ts';
import { countDoubled, startLoad } from './load.ts';
import { residentMemory, startService } from './service.ts';
import { addRow } from './table.ts';

const minute = 60_000;
const minutes = 10;

afterEach(stopAll, minute);

const long = process.env.FAULTS === 'long' ? test : test.skip;

long(
  '15: ten minutes at sixty per cent, with workers that are recycled, cost no visit and no memory',
  async () => {
    const { redis, app, to, count } = await startService({
      env: { MAX_REQUESTS: '20000', MAX_REQUESTS_JITTER: '5000' },
    });
    const full = startLoad({ to });
    await delay(5_000);
    const { ok: before, seconds } = await full.stop();
    const rate = Math.round((0.6 * before) / seconds);

    const load = startLoad({ to, rate });
    const begin = performance.now();
    const memory: number[] = [];
    while (performance.now() - begin < minutes * minute) {
      const workers = app.workers().map(residentMemory);
      const mean = workers.reduce((sum, bytes) => sum + bytes, 0) / workers.length;
      memory.push(residentMemory(app.pid) + mean);
      await delay(1_000);
    }
    const report = await load.stop();
    const difference = (await count()) - before - report.ok;
    const restarts = app.log().filter(({ msg }) => /served its number of requests/.test(msg)).length;
    const average = (samples: number[]) => samples.reduce((sum, bytes) => sum + bytes, 0) / samples.length;
    const growth = average(memory.slice(-120)) / average(memory.slice(60, 180)) - 1;
    const remembered = await redis.command('DBSIZE');
    addRow({
      row: '15',
      fault: `${minutes} minutes at ${rate} visits a second, workers recycled each 20,000`,
      load: report,
      restarts,
      difference,
      seen: `memory ${(100 * growth).toFixed(1)} % from minutes 2–3 to the last two; ${remembered} keys in Redis`,
    });
    expect(report).toMatchObject({ ok: report.sent, failed: {}, refused: 0 });
    expect(countDoubled(report.numbers)).toBe(0);
    expect(difference).toBe(0);
    expect(growth).toBeLessThan(0.1);
    expect(restarts).toBeGreaterThan(10);
  },
  (minutes + 5) * minute,
);
