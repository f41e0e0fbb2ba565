import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { stopAll } from '../support/processes.ts';
import { delay, waitFor } from '../support/wait.ts';
import { type Cluster, startCluster, tryUnderLoad } from './cluster.ts';
import { renderStranger, startStrangers, tryPort } from './strangers.ts';

const minute = 60_000;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
}, 4 * minute);
afterAll(stopAll, 3 * minute);

test(
  '1: an empty cluster serves after one apply; the next one changes nothing',
  async () => {
    expect((await cluster.ask()).headers['content-type']).toMatch(/./);
    const before = await generations();
    await cluster.kubectl('apply', '--kustomize', cluster.directory);
    expect(await generations()).toEqual(before);
    expect(await cluster.attempt(['diff', '--kustomize', cluster.directory])).toEqual({
      code: 0,
      output: '',
    });
  },
  minute,
);

/** Kubernetes counts up when what is wanted of a thing changes. */
const generations = () =>
  cluster.kubectl(
    'get',
    'all,networkpolicies,poddisruptionbudgets',
    '--output',
    'jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation}{"\\n"}{end}',
  );

test(
  '3: pods that are deleted or evicted have answered everything, and the budget lets one go at a time',
  async () => {
    await cluster.scale(2);
    await tryUnderLoad(
      cluster,
      '3 evicted',
      'each of 2 pods deleted, then both evicted at once',
      async () => {
        for (const { name } of await cluster.pods()) {
          await cluster.kubectl('delete', 'pod', name);
          await cluster.settle();
        }
        const refused: string[] = [];
        await Promise.all(
          (await cluster.pods()).map(({ name }) =>
            waitFor(async () => {
              const { code, output } = await evict(name);
              if (code !== 0) refused.push(output);
              return code === 0;
            }, `${name} to be evicted`),
          ),
        );
        expect(refused.length).toBeGreaterThan(0); // both at once were too many
        for (const output of refused) expect(output).toContain('disruption budget');
        return `evictions refused: ${refused.length}`;
      },
    );
  },
  5 * minute,
);

function evict(name: string) {
  const path = `/api/v1/namespaces/${cluster.namespace}/pods/${name}/eviction`;
  const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name } };
  return cluster.attempt(['create', '--raw', path, '--filename', '-'], JSON.stringify(eviction));
}

test(
  '4: pods come and go, 1 → 4 → 1, and answer as one service; each gets its share',
  async () => {
    await cluster.scale(1);
    await tryUnderLoad(cluster, '4 scaled', '1 → 4 → 1 pods', async () => {
      await cluster.scale(4);
      await delay(6_000);
      const shares = await Promise.all(
        (await cluster.pods()).map(async ({ name }) => {
          const log = await cluster.kubectl('logs', name, '--container=nginx', '--since=5s');
          return log.split('\n').length;
        }),
      );
      const average = shares.reduce((sum, share) => sum + share, 0) / shares.length;
      expect({ shares, least: Math.min(...shares) > average / 4 }).toEqual({ shares, least: true });
      await cluster.scale(1);
      return `requests of 5 s by pod: ${shares.join(', ')}`;
    });
  },
  5 * minute,
);

test(
  '6: load brings pods and its end takes them away, without failing a request',
  async () => {
    await cluster.scale(1);
    async function scaleUpAndDown(): Promise<string> {
      await applyAutoscaler();
      const begin = performance.now();
      const more = cluster.startLoad({ busy: 30, rate: 1_500, pausing: 0 });
      const count = async () => (await cluster.pods()).filter(({ ready, ending }) => ready && !ending).length;
      await waitFor(async () => (await count()) > 1, 'another pod', 2 * minute);
      const up = performance.now() - begin;
      const { failed } = await more.stop();
      expect(failed).toEqual({});
      await waitFor(async () => (await count()) === 1, 'one pod again', 3 * minute);
      await cluster.kubectl('delete', 'horizontalpodautoscaler', 'service');
      return `the second pod was ready after ${(up / 1000).toFixed(0)} s`;
    }
    // One pod must be enough for those who stay, however slow the machine is.
    await tryUnderLoad(cluster, '6 autoscaled', 'much load for a while, of 1 pod', scaleUpAndDown, {
      few: true,
    });
  },
  7 * minute,
);

/** The one of production, but for few pods, and without its patience. */
async function applyAutoscaler(): Promise<void> {
  const autoscaler = parse(readFileSync('deploy/kubernetes/overlays/production/autoscaler.yaml', 'utf8'));
  autoscaler.spec.minReplicas = 1;
  autoscaler.spec.maxReplicas = 3;
  autoscaler.spec.metrics[0].containerResource.target.averageUtilization = 100;
  Object.assign(autoscaler.spec.behavior.scaleDown, { stabilizationWindowSeconds: 15 });
  autoscaler.spec.behavior.scaleDown.policies[0].periodSeconds = 15;
  const { code, output } = await cluster.attempt(['apply', '--filename', '-'], JSON.stringify(autoscaler));
  expect({ code, output }).toEqual({ code: 0, output });
}

test(
  '7: a pod that is privileged, root or may gain rights is refused',
  async () => {
    const dryRun = ['create', '--dry-run=server', '--filename', '-'];
    expect(await cluster.attempt(dryRun, renderStranger('restricted'))).toMatchObject({ code: 0 });
    for (const security of [
      { privileged: true, allowPrivilegeEscalation: true },
      { runAsNonRoot: false, runAsUser: 0 },
      { capabilities: { add: ['NET_ADMIN'] } },
      { seccompProfile: { type: 'Unconfined' } },
    ]) {
      const { code, output } = await cluster.attempt(dryRun, renderStranger('refused', security));
      expect({ security, code, output }).toEqual({
        security,
        code: 1,
        output: expect.stringContaining('violates PodSecurity'),
      });
    }
  },
  minute,
);

const testWherePoliciesHold = process.env.CLUSTER_POLICIES === 'hold' ? test : test.skip;

testWherePoliciesHold(
  '7: a stranger reaches nginx and nothing else, and the service reaches no stranger',
  async () => {
    const strangers = await startStrangers();
    const ports = await listPorts();
    expect(ports.length).toBeGreaterThan(1);
    const reached = await Promise.all(
      ports.map(async ({ label, address, port }) =>
        (await strangers.reaches(address, port)) ? [label] : [],
      ),
    );
    expect(new Set(reached.flat())).toEqual(new Set(['service http']));
    const [pod] = await cluster.pods();
    const out = await cluster.attempt([
      'exec',
      String(pod?.name),
      '--container=nginx',
      '--',
      ...tryPort(strangers.address, 8080),
    ]);
    expect(out.code).not.toBe(0);
  },
  2 * minute,
);

/** Every port of every pod in the namespace. */
async function listPorts(): Promise<{ label: string; address: string; port: number }[]> {
  const { items } = JSON.parse(await cluster.kubectl('get', 'pods', '--output', 'json'));
  // biome-ignore lint/suspicious/noExplicitAny: what the API says of pods
  return items.flatMap(({ metadata, spec, status }: any) =>
    spec.containers.flatMap(({ ports = [] }: { ports?: { name: string; containerPort: number }[] }) =>
      ports.map(({ name, containerPort }) => ({
        label: `${metadata.labels['app.kubernetes.io/name']} ${name}`,
        address: status.podIP,
        port: containerPort,
      })),
    ),
  );
}
