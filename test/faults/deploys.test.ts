import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../support/app.ts';
import { rounds, startService } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { expectExact } from '../support/load.ts';
import { stopAll } from '../support/processes.ts';
import { delay } from '../support/wait.ts';

const minute = 60_000;
const limit = 5 * minute; // for a machine that is busy with other things
const times = rounds(6);

afterEach(stopAll, minute);

test(
  '4: a second instance takes the socket over from the first without losing a request',
  async () => {
    const service = await startService();
    const load = service.startLoad();
    let old = service.app;
    for (let deploy = 1; deploy <= times; deploy++) {
      const successor = await startApp({ env: service.env });
      old.kill('SIGTERM');
      expect((await old.exited).code).toBe(0);
      old = successor;
      await delay(1_000);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    addRow({
      row: '4 processes',
      fault: `app replaced × ${times}`,
      load: report,
      restarts: times,
      verdict,
    });
    expectExact(report, verdict);
  },
  limit,
);
