/** Before the tests: kubectl, and a cluster that was named on purpose, or one clear error. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { stopAll } from '../support/processes.ts';
import { waitFor } from '../support/wait.ts';
import { startStrangers } from './strangers.ts';

export default async function requireCluster(): Promise<void> {
  if (!existsSync('deploy/kubernetes')) {
    throw new Error('this copy was applied without deploy/kubernetes, which is what these tests are of');
  }
  const { CLUSTER_KUBECONFIG: kubeconfig, CLUSTER_CONTEXT: context } = process.env;
  if (!kubeconfig || !context) {
    throw new Error(
      'the tests make and delete namespaces, so the cluster must be named: set CLUSTER_KUBECONFIG to a file ' +
        'and CLUSTER_CONTEXT to the name of a context in it (docs/kubernetes.md)',
    );
  }
  const on = ['--kubeconfig', kubeconfig, '--context', context];
  const { error, status, stderr } = spawnSync('kubectl', [...on, 'get', 'namespaces'], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  if (status !== 0) {
    throw new Error(
      `the tests need kubectl on PATH and a cluster that answers; \`kubectl get namespaces\` on ${context} of ` +
        `${kubeconfig} said: ${error?.message ?? stderr.trim()}`,
    );
  }
  process.env.TABLE = 'cluster'; // read by test/support/battery/table.ts
  if (!process.env.CLUSTER_REGISTRY)
    process.stdout.write('CLUSTER_REGISTRY is not set: deployments to the cluster are skipped\n');
  if (await holdsPolicies()) process.env.CLUSTER_POLICIES = 'hold';
  else
    process.stdout.write(
      'this cluster does not enforce network policies: what is tested of them is skipped\n',
    );
}

/** A canary: without it, a test of what is refused would say nothing where a cluster refuses all or nothing. */
async function holdsPolicies(): Promise<boolean> {
  try {
    const { address, reaches, deny } = await startStrangers();
    await waitFor(() => reaches(address, 8080), 'one pod to reach another', 20_000);
    await deny();
    return await waitFor(async () => !(await reaches(address, 8080)), 'a policy to hold', 10_000).catch(
      () => false,
    );
  } finally {
    await stopAll();
  }
}
