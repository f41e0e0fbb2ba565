import { afterEach, expect, test } from '@jest/globals';
import { copyRepository, execute, prepareStack, removeAll } from '../containers/engine.ts';
import { delay, startApp, stopAll } from '../processes.ts';
import { startLoad } from './load.ts';
import { expectExact, startService } from './service.ts';
import { addRow } from './table.ts';

const minute = 60_000;
const times = 6;

afterEach(stopAll, minute);
afterEach(removeAll, 2 * minute);

test(
  '4: a second instance takes the socket over from the first without losing a visit, and nginx reloads',
  async () => {
    const { redis, app, nginx, to, count } = await startService();
    const env = { ...socketOf(app.address), REDIS_URL: redis.url, WEB_CONCURRENCY: '2' };
    const load = startLoad({ to });
    let old = app;
    for (let deploy = 1; deploy <= times; deploy++) {
      const successor = await startApp({ env });
      old.kill('SIGTERM');
      expect((await old.exited).code).toBe(0);
      old = successor;
      nginx.kill('SIGHUP');
      await delay(500);
    }
    const report = await load.stop();
    const difference = (await count()) - report.ok;
    addRow({
      row: '4 processes',
      fault: `app replaced × ${times}, nginx reloaded × ${times}`,
      load: report,
      restarts: times,
      difference,
      seen: report.resent > 0 ? `${report.resent} sent again: nginx had closed their idle connection` : '',
    });
    expectExact(report, difference);
  },
  2 * minute,
);

test(
  '4: a rollout of the app’s container loses no visit, nor does a reload of nginx’s',
  async () => {
    const stack = await prepareStack(copyRepository('Deploys'));
    await stack.compose(['up', '--detach', '--wait', '--build']);
    const first = await stack.visit();
    const load = startLoad({ to: stack.address });
    for (let deploy = 1; deploy <= times; deploy++) {
      await execute('deploy/rollout', [], { cwd: stack.directory, env: stack.environment });
      await stack.compose(['kill', '--signal', 'HUP', 'nginx']);
    }
    const report = await load.stop();
    const difference = (await stack.visit()) - first - 1 - report.ok;
    addRow({
      row: '4 containers',
      fault: `app’s container replaced × ${times}, nginx’s reloaded × ${times}`,
      load: report,
      restarts: times,
      difference,
      seen: report.resent > 0 ? `${report.resent} sent again: nginx had closed their idle connection` : '',
    });
    expectExact(report, difference);
  },
  10 * minute,
);

function socketOf(address: object): { LISTEN: string } {
  return { LISTEN: 'socketPath' in address ? String(address.socketPath) : '' };
}
