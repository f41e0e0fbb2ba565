/** The service on a cluster, in a namespace of the tests' own; stopAll() deletes it with all that is in it. */
import { writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { expect } from '@jest/globals';
import { createTrial, type Trial } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { expectExact, type Load, type Report } from '../support/load.ts';
import { atEnd, root, temporaryDirectory } from '../support/processes.ts';
import { delay, waitFor } from '../support/wait.ts';
import { createKubectl, type Result } from './kubectl.ts';

export interface Pod {
  name: string;
  /** By what the Service goes: Kubernetes' condition Ready. */
  ready: boolean;
  /** Of all its containers together. */
  restarts: number;
  ending: boolean;
}

export interface Cluster extends Trial {
  readonly namespace: string;
  /** The kustomization that was applied: an overlay, in this namespace, on a port of the nodes. */
  readonly directory: string;
  /** Runs kubectl in the namespace; rejects with what it said if it fails. */
  kubectl(...args: string[]): Promise<string>;
  /** The same, whatever its exit code, with something on its standard input. */
  attempt(args: string[], input?: string): Promise<Result>;
  /** Waits until the newest version serves and no pod is ending. */
  settle(): Promise<void>;
  /** The service's pods, or those with another label. */
  pods(label?: string): Promise<Pod[]>;
  scale(pods: number): Promise<void>;
}

/** The service by the overlay for trying out, when it serves. The cluster must know the images `app:local` and so on. */
export async function startCluster(): Promise<Cluster> {
  const namespace = `test-${Math.random().toString(36).slice(2, 8)}`;
  const directory = temporaryDirectory();
  writeFileSync(
    join(directory, 'kustomization.yaml'),
    `namespace: ${namespace}
resources: [${relative(directory, join(root, 'deploy/kubernetes/overlays/local'))}]
patches:
  - target: { kind: Service, name: service }
    patch: '[{"op": "add", "path": "/spec/type", "value": "NodePort"}]'
`,
  );
  const run = createKubectl(namespace);
  const kubectl = (...args: string[]) => run.kubectl(args);
  atEnd(() => run.attempt(['delete', 'namespace', namespace, '--wait=false'])); // which ends by itself
  await kubectl('apply', '--kustomize', directory);

  async function pods(label = 'app.kubernetes.io/name=service'): Promise<Pod[]> {
    const { items } = JSON.parse(await kubectl('get', 'pods', '--selector', label, '--output', 'json'));
    return items.map(readPod);
  }
  async function settle(): Promise<void> {
    await kubectl('rollout', 'status', 'deployment/service', '--timeout=150s');
    await waitFor(async () => (await pods()).every(({ ending }) => !ending), 'old pods to end', 90_000);
  }
  await settle();
  return {
    ...createTrial(await findAddress(kubectl)),
    namespace,
    directory,
    kubectl,
    attempt: run.attempt,
    settle,
    pods,
    async scale(count) {
      await kubectl('scale', 'deployment/service', `--replicas=${count}`);
      await settle();
    },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: what the API says of a pod
function readPod({ metadata, status }: any): Pod {
  const containers = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])];
  const conditions: { type: string; status: string }[] = status.conditions ?? [];
  return {
    name: metadata.name,
    ending: metadata.deletionTimestamp !== undefined,
    ready: conditions.some(({ type, status: is }) => type === 'Ready' && is === 'True'),
    restarts: containers.reduce((sum, { restartCount }) => sum + restartCount, 0),
  };
}

/** The Service's port on a node: it answers outside of the cluster and leads to any of the pods. */
async function findAddress(kubectl: Cluster['kubectl']): Promise<{ host: string; port: number }> {
  const get = (what: string, path: string) => kubectl('get', what, '--output', `jsonpath={${path}}`);
  return {
    port: Number(await get('service/service', '.spec.ports[0].nodePort')),
    host: await get('nodes', '.items[0].status.addresses[?(@.type=="InternalIP")].address'),
  };
}

/**
 * Clients that keep their connections, busy and with pauses, and clients that make a new one for each request: a few
 * hundred requests a second, because new pods need their share of the machine to start; or a `few`.
 */
export function startClients(cluster: Trial, { few = false } = {}): { stop(): Promise<Report> } {
  const [rate, pausing] = few ? [10, 2] : [100, 20];
  const loads: Load[] = [
    cluster.startLoad({ busy: 10, rate, pausing }),
    cluster.startLoad({ busy: 10, rate, pausing: 0, keepAlive: false }),
  ];
  return {
    async stop() {
      const [kept, fresh] = (await Promise.all(loads.map((load) => load.stop()))) as [Report, Report];
      return add(kept, fresh);
    },
  };
}

/** Two reports as one; of the quantiles the worse ones. */
function add(one: Report, other: Report): Report {
  const failed = { ...one.failed };
  for (const [kind, count] of Object.entries(other.failed)) failed[kind] = (failed[kind] ?? 0) + count;
  return {
    sent: one.sent + other.sent,
    ok: one.ok + other.ok,
    refused: one.refused + other.refused,
    failed,
    p50: Math.max(one.p50, other.p50),
    p99: Math.max(one.p99, other.p99),
    max: Math.max(one.max, other.max),
    seconds: Math.max(one.seconds, other.seconds),
    history: [...one.history, ...other.history],
  };
}

/** Does something under load, and expects that no request failed and that every answer was right. */
export async function tryUnderLoad(
  cluster: Cluster,
  row: string,
  fault: string,
  act: () => Promise<unknown>,
  clients: { few?: boolean } = {},
): Promise<void> {
  const load = startClients(cluster, clients);
  await delay(1_000);
  let seen: unknown;
  try {
    seen = await act();
    await cluster.settle();
  } finally {
    const report = await load.stop();
    const verdict = await cluster.judge();
    addRow({ row, fault, load: report, verdict, ...(typeof seen === 'string' && { seen }) });
    expectExact(report, verdict);
  }
}

/** Changes the service by kubectl to one that cannot start: under load the old pods serve on, until it is undone. */
export async function tryStuckRollout(
  cluster: Cluster,
  row: string,
  fault: string,
  change: string[],
): Promise<void> {
  const setDeadline = (seconds: number) => {
    const patch = JSON.stringify({ spec: { progressDeadlineSeconds: seconds } });
    return cluster.kubectl('patch', 'deployment/service', '--patch', patch);
  };
  const before = (await cluster.pods()).map(({ name }) => name);
  await setDeadline(15); // the manifest's two minutes would show no more
  await tryUnderLoad(cluster, row, fault, async () => {
    await cluster.kubectl(...change);
    const status = await cluster.attempt(['rollout', 'status', 'deployment/service', '--timeout=90s']);
    expect(status).toEqual({ code: 1, output: expect.stringContaining('exceeded its progress deadline') });
    const serving = (await cluster.pods()).filter(({ ready }) => ready).map(({ name }) => name);
    expect(serving.sort()).toEqual(before.sort());
    await cluster.kubectl('rollout', 'undo', 'deployment/service');
  });
  await setDeadline(120);
}
