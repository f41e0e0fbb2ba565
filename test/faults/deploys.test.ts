import { afterEach, expect, test } from '@jest/globals';
import { cloneRepository, execute, prepareStack, removeAll } from '../containers/engine.ts';
import { startApp } from '../support/app.ts';
import { stopAll } from '../support/processes.ts';
import { delay } from '../support/wait.ts';
import { createTrial, expectExact, startService } from './harness.ts';
import { addRow } from './table.ts';

const minute = 60_000;
const times = 6;

afterEach(stopAll, minute);
afterEach(removeAll, 2 * minute);

test(
  '4: a second instance takes the socket over from the first without losing a request, and nginx reloads',
  async () => {
    const service = await startService();
    const load = service.startLoad();
    let old = service.app;
    for (let deploy = 1; deploy <= times; deploy++) {
      const successor = await startApp({ env: service.env });
      old.kill('SIGTERM');
      expect((await old.exited).code).toBe(0);
      old = successor;
      service.nginx.kill('SIGHUP');
      await delay(500);
    }
    const report = await load.stop();
    const verdict = await service.judge();
    addRow({
      row: '4 processes',
      fault: `app replaced × ${times}, nginx reloaded × ${times}`,
      load: report,
      restarts: times,
      verdict,
    });
    expectExact(report, verdict);
  },
  2 * minute,
);

test(
  '4: a rollout of the app’s container loses no request, nor does a reload of nginx’s',
  async () => {
    const stack = await prepareStack(cloneRepository('Deploys'));
    await stack.compose(['up', '--detach', '--wait', '--build']);
    const trial = createTrial(stack.address);
    const load = trial.startLoad();
    for (let deploy = 1; deploy <= times; deploy++) {
      await execute('deploy/rollout', [], { cwd: stack.directory, env: stack.environment });
      await stack.compose(['kill', '--signal', 'HUP', 'nginx']);
    }
    const report = await load.stop();
    const verdict = await trial.judge();
    addRow({
      row: '4 containers',
      fault: `app’s container replaced × ${times}, nginx’s reloaded × ${times}`,
      load: report,
      restarts: times,
      verdict,
    });
    expectExact(report, verdict);
  },
  10 * minute,
);
