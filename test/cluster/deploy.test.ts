// deploy/deploy on a cluster, from a registry, under load. The tests are one story, in this order.
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { attempt, cloneRepository, type Result } from '../containers/engine.ts';
import { createPublisher } from '../deploy/publisher.ts';
import { startRegistry } from '../pipeline/registry.ts';
import { addRow } from '../support/battery/table.ts';
import { atEnd, stopAll, temporaryDirectory } from '../support/processes.ts';
import { delay, waitFor } from '../support/wait.ts';
import { type Cluster, startClients, startCluster } from './cluster.ts';

const minute = 60_000;
const { CLUSTER_REGISTRY: host, CLUSTER_KUBECONFIG, CLUSTER_CONTEXT } = process.env;
const testWithRegistry = host ? test : test.skip; // nodes must be able to pull from this machine
const names = { app: 'some-owner/service', nginx: 'some-owner/service/nginx' };

let cluster: Cluster;
let directory: string;
/** An overlay with which what does not start is given up soon. */
let impatient: string;
let environment: NodeJS.ProcessEnv;
let commit: () => string;
let publish: ReturnType<typeof createPublisher<keyof typeof names>>['publish'];

beforeAll(async () => {
  if (!host) return;
  const registry = startRegistry();
  atEnd(() => registry.stop());
  const address = registry.address.replace('localhost', host);
  directory = cloneRepository('Deploy');
  const images = { app: 'app:local', nginx: 'nginx:local' };
  ({ commit, publish } = createPublisher({ directory, registry, address, names, images }));
  cluster = await startCluster();
  impatient = temporaryDirectory();
  writeFileSync(
    join(impatient, 'kustomization.yaml'),
    `namespace: ${cluster.namespace}
resources: [${relative(impatient, cluster.directory)}]
patches:
  - target: { kind: Deployment, name: service }
    patch: '[{"op": "replace", "path": "/spec/progressDeadlineSeconds", "value": 20}]'
`,
  );
  environment = {
    ...{ REGISTRY: address, GITHUB_REPOSITORY: names.app, UNSIGNED: 'true' },
    ...{ KUBECONFIG: CLUSTER_KUBECONFIG, OVERLAY: cluster.directory },
  };
}, 5 * minute);
afterAll(stopAll, 3 * minute);

const target = `kubernetes://${CLUSTER_CONTEXT}`;
const deploy = (args: string[] = [], env: NodeJS.ProcessEnv = {}) =>
  attempt('deploy/deploy', [target, ...args], { cwd: directory, env: { ...environment, ...env } });

/** Does something under load, after which no request may have failed. */
async function underLoad<T extends Result | Result[]>(row: string, act: () => Promise<T>): Promise<T> {
  const load = startClients(cluster);
  await delay(1_000);
  const result = await act();
  await cluster.settle();
  const report = await load.stop();
  const verdict = await cluster.judge();
  const codes = [result].flat().map(({ code }) => code);
  addRow({ row: `9 ${row}`, fault: `deployment: ${row}`, load: report, verdict, seen: `exit code ${codes}` });
  const said = [result].flat().map(({ output }) => output);
  expect({ ...report.failed, refused: report.refused, said }).toEqual({ refused: 0, said });
  expect(verdict.wrong).toEqual([]);
  return result;
}

function expectEnd({ code, output }: Result, end: number, text: string): void {
  if (code !== end || !output.includes(text)) throw new Error(`exit code ${code}:\n${output}`);
}

/** The images of the Deployment, which all pods have. */
async function expectRunning(images: string): Promise<void> {
  const { items } = JSON.parse(
    await cluster.kubectl('get', 'pods', '--selector', 'app.kubernetes.io/name=service', '--output', 'json'),
  );
  expect(items.length).toBeGreaterThan(0);
  for (const { spec } of items) {
    const [app, nginx] = [spec.initContainers[0].image, spec.containers[0].image];
    expect({ app, nginx }).toEqual(JSON.parse(images));
  }
}

let first: string;
let older: string;

testWithRegistry(
  'where there is none yet, one that does not start leaves none; one that starts is the first',
  async () => {
    await cluster.kubectl('delete', 'deployment', 'service');
    const IMAGES = await publish('never', commit(), { nginx: 'CMD ["false"]' });
    expectEnd(await deploy([], { IMAGES, OVERLAY: impatient }), 1, ': failed, and taken back');
    expect(await cluster.kubectl('get', 'deployments', '--output', 'name')).toBe('');
    const images = await publish('0.1.0', commit());
    expectEnd(await deploy([], { IMAGES: images }), 0, ': deployed');
    await cluster.settle();
    await expectRunning(images);
  },
  3 * minute,
);

testWithRegistry(
  'what was published replaces what runs',
  async () => {
    older = await publish('old', commit());
    first = await publish('1.0.0', commit());
    expectEnd(await underLoad('next', () => deploy([], { IMAGES: first })), 0, ': deployed');
    await expectRunning(first);
  },
  3 * minute,
);

testWithRegistry(
  'an image that does not start is taken back, and costs no request',
  async () => {
    const IMAGES = await publish('broken', commit(), { app: 'CMD ["false"]' });
    const broken = await underLoad('broken image', () => deploy([], { IMAGES, OVERLAY: impatient }));
    expectEnd(broken, 1, ': failed, and taken back');
    await expectRunning(first);
  },
  3 * minute,
);

testWithRegistry(
  'a commit that is older than the running one is refused, unless its version is named',
  async () => {
    expectEnd(await deploy([], { IMAGES: older }), 1, 'is older than');
    await expectRunning(first);
    expectEnd(await underLoad('roll-back by version', () => deploy(['old'])), 0, ': deployed');
    await expectRunning(older);
  },
  3 * minute,
);

testWithRegistry(
  'of two at once one waits for the other',
  async () => {
    const both = await underLoad('two at once', () => Promise.all([deploy(['1.0.0']), deploy(['old'])]));
    for (const one of both) expectEnd(one, 0, ': deployed');
    expect(both.filter(({ output }) => output.includes('waiting for another deployment'))).toHaveLength(1);
  },
  4 * minute,
);

testWithRegistry(
  'a lock that was left behind is taken over after its time, and given back',
  async () => {
    const lease = (acquireTime: string) => ({
      ...{ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'deploying' } },
      spec: { holderIdentity: 'killed', leaseDurationSeconds: 1800, acquireTime },
    });
    const left = lease(`${new Date(Date.now() - 1801_000).toISOString().slice(0, -1)}000Z`);
    await cluster.attempt(['create', '--filename', '-'], JSON.stringify(left));
    expectEnd(await deploy(['old']), 0, ': deployed');
    expect(await cluster.kubectl('get', 'leases', '--output', 'name')).toBe('');
  },
  3 * minute,
);

testWithRegistry(
  'one that is killed in the middle leaves a service that answers; run again, it is as if nothing had been',
  async () => {
    const next = await publish('2.0.0', commit());
    expectEnd(
      await underLoad('killed, and run again', async () => {
        const env = { ...process.env, ...environment };
        const killed = spawn('deploy/deploy', [target, '2.0.0'], { cwd: directory, env, detached: true });
        await waitFor(
          async () => (await cluster.pods()).length === 2,
          'a new pod beside the old one',
          minute,
        );
        process.kill(-(killed.pid as number), 'SIGKILL');
        const again = deploy(['2.0.0']);
        await delay(5_000);
        expect(await cluster.kubectl('get', 'leases', '--output', 'name')).not.toBe(''); // it waits
        await cluster.kubectl('delete', 'lease', 'deploying'); // as it says
        return again;
      }),
      0,
      'delete lease deploying\n',
    );
    await expectRunning(next);
  },
  5 * minute,
);

testWithRegistry(
  'the user that the docs make deploys the overlay for production, with a CA of its own, and may do nothing else',
  async () => {
    const { namespace } = cluster;
    const folder = temporaryDirectory();
    const [, commands = 'false'] =
      /```sh\n(kubectl config view[^`]*)```/.exec(readFileSync('docs/deploy.md', 'utf8')) ?? [];
    const administrator = join(folder, 'kubeconfig');
    copyFileSync(CLUSTER_KUBECONFIG as string, administrator);
    const asAdministrator = { cwd: folder, env: { ...process.env, KUBECONFIG: administrator } };
    execFileSync('kubectl', ['config', 'use-context', CLUSTER_CONTEXT as string], asAdministrator);
    const here = commands.replace('--namespace service', `--namespace ${namespace}`);
    execFileSync('sh', ['-ec', here], asAdministrator);
    const user = join(folder, 'deploy.kubeconfig');

    const overlay = join(directory, 'deploy/kubernetes/overlays/of-test');
    const ca = join(directory, 'deploy/kubernetes/components/ca/ca.pem');
    const files = ['-keyout', '/dev/null', '-out', ca];
    execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa', '-nodes', '-subj', '/CN=own', ...files], {
      stdio: 'pipe',
    });
    mkdirSync(overlay);
    writeFileSync(
      join(overlay, 'kustomization.yaml'),
      `{ namespace: ${namespace}, resources: [../production], components: [../../components/ca] }`,
    );
    const secrets = join(folder, 'secrets');
    writeFileSync(secrets, 'REDIS_URL=redis://app@redis\r\nREDIS_PASSWORD=local'); // as it comes from Windows
    await cluster.kubectl('create', 'secret', 'generic', 'secrets', `--from-env-file=${secrets}`);

    const IMAGES = await publish('3.0.0', commit());
    expectEnd(await deploy([], { IMAGES, OVERLAY: overlay, KUBECONFIG: user }), 0, ': deployed');
    await cluster.settle();
    await expectRunning(IMAGES);
    const inApp = ['exec', 'deployment/service', '--container', 'app', '--'];
    expect(await cluster.kubectl(...inApp, 'sh', '-c', 'cat "$NODE_EXTRA_CA_CERTS"')).toBe(
      readFileSync(ca, 'utf8').trim(),
    );

    const asUser = (...args: string[]) => attempt('kubectl', ['--kubeconfig', user, ...args]);
    for (const args of [
      ['get', 'secrets', '--namespace', namespace],
      ['get', 'secret', 'secrets', '--namespace', namespace],
      ['get', 'pods', '--namespace', 'kube-system'],
      ['get', 'deployments', '--all-namespaces'],
      ['label', 'namespace', namespace, 'pod-security.kubernetes.io/enforce=privileged', '--overwrite'],
      ['exec', 'deployment/service', '--namespace', namespace, '--', 'env'],
      ['create', 'token', 'deploy', '--namespace', namespace],
      ['create', 'rolebinding', 'more', '--clusterrole=admin', '--user=deploy', '--namespace', namespace],
    ])
      expect([args, await asUser(...args)]).toEqual([
        args,
        { code: 1, output: expect.stringMatching(/forbidden/) },
      ]);
  },
  5 * minute,
);
