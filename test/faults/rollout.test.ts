import { afterEach, test } from '@jest/globals';
import { cloneRepository, execute, prepareStack, removeAll } from '../containers/engine.ts';
import { createTrial, rounds } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { expectExact } from '../support/load.ts';
import { stopAll } from '../support/processes.ts';

const minute = 60_000;
const times = rounds(6);

afterEach(stopAll, minute);
afterEach(removeAll, 2 * minute);

test(
  '4: a rollout of the app’s container loses no request, nor does a reload of nginx’s',
  async () => {
    const stack = await prepareStack(cloneRepository('Deploys'));
    await stack.compose(['up', '--detach', '--wait', '--build']);
    const trial = createTrial(stack.address);
    const load = trial.startLoad({ rate: 300 }); // the new containers' starts need their share of the machine
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
