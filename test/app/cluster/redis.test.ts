/** What the counter promises when Redis' pod fails on a cluster: rows of the table of test/cluster. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cluster, startClients, startCluster, tryStuckRollout } from '../../cluster/cluster.ts';
import { expectInTime } from '../../support/battery/harness.ts';
import { addRow } from '../../support/battery/table.ts';
import { now } from '../../support/load.ts';
import { stopAll } from '../../support/processes.ts';
import { request } from '../../support/requests.ts';
import { delay, waitFor } from '../../support/wait.ts';
import { visit } from '../visit.ts';

const minute = 60_000;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
}, 4 * minute);
afterAll(stopAll, 3 * minute);

const isRedis = 'app.kubernetes.io/name=redis';

// First, because an outage may leave visits that were counted and never acknowledged, and this one must not.
test(
  '2: a version that cannot reach Redis gets no traffic, and its rollout fails',
  async () => {
    await cluster.scale(2);
    await tryStuckRollout(cluster, '2 no redis', 'version that cannot reach Redis', [
      ...['set', 'env', 'deployment/service', '--containers=app', 'REDIS_URL=redis://app@nowhere'],
    ]);
  },
  5 * minute,
);

test(
  '5: while Redis is away every pod says so and stays; back again, nothing that was acknowledged is lost',
  async () => {
    await cluster.scale(2);
    const before = await cluster.pods();
    const load = startClients(cluster);
    await delay(1_000);
    await cluster.kubectl('delete', 'pod', '--selector', isRedis, '--grace-period=0', '--force');
    await waitForRedis();
    await cluster.kubectl('scale', 'statefulset/redis', '--replicas=0');
    await waitFor(async () => (await cluster.pods(isRedis)).length === 0, 'Redis to be away');
    await delay(5_000);
    const meanwhile: (string | undefined)[] = [];
    for (let i = 0; i < 20; i++) {
      const { status, headers } = await ask();
      meanwhile.push(`${status} ${headers['retry-after'] === undefined ? 'for ever' : 'for a time'}`);
    }
    await delay(20_000);
    const during = await cluster.pods();
    await cluster.kubectl('scale', 'statefulset/redis', '--replicas=1');
    await waitForRedis();
    const begin = performance.now();
    await waitFor(async () => (await ask()).status === 200, 'the first answer');
    const times = [{ what: 'back after Redis', took: performance.now() - begin, bar: 1_000 }];
    const report = await load.stop();
    const verdict = await cluster.judge();
    addRow({ row: '5 redis', fault: "Redis' pod killed, then away for 30 s", load: report, verdict, times });
    expect(new Set(meanwhile)).toEqual(new Set(['503 for a time']));
    expect(report.failed).toEqual({});
    expect(during).toEqual(before); // the same pods, ready, as often restarted as before
    expect(verdict.wrong).toEqual([]);
    expectInTime(times);
  },
  5 * minute,
);

const waitForRedis = () =>
  waitFor(
    async () => (await cluster.pods(isRedis)).some(({ ready, ending }) => ready && !ending),
    'Redis',
    90_000,
  );

/** A visit, which the judge hears of. */
async function ask() {
  const begin = now();
  const answer = await request(cluster.to, visit.path, { headers: visit.headers });
  cluster.add({ begin, end: now(), status: answer.status, body: answer.body });
  return answer;
}
