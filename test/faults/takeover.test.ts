import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../support/app.ts';
import { expectInTime, rounds, startService } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { stopAll } from '../support/processes.ts';
import { delay } from '../support/wait.ts';

const minute = 60_000;
const limit = 5 * minute; // for a machine that is busy with other things

afterEach(stopAll, minute);

test(
  '23: a second instance that takes the socket over and ends: the first one serves again, nothing is done twice',
  async () => {
    const service = await startService();
    const load = service.startLoad();
    const takeovers = rounds(5);
    let slowest = 0;
    for (let takeover = 1; takeover <= takeovers; takeover++) {
      const second = await startApp({ env: service.env });
      await delay(1_000);
      second.kill('SIGTERM');
      await second.exited;
      const begin = performance.now();
      await service.app.waitForLog(/^reloaded/, { nth: takeover });
      await load.waitForAnswers(100);
      slowest = Math.max(slowest, performance.now() - begin);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    const times = [{ what: 'serves again within', took: slowest, bar: 4_000 }];
    const fault = `a second instance takes the socket over and ends × ${takeovers}`;
    addRow({ row: '23', fault, load: report, restarts: takeovers, verdict, times });
    expect(Object.keys(report.failed)).toEqual(['502']); // nobody listens for a second or two
    expect(verdict).toEqual({ wrong: [], unacknowledged: 0 });
    expectInTime(times);
  },
  limit,
);
