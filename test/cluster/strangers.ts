/** Pods that are none of the service's, in a namespace of their own, which stopAll() deletes. */
import { atEnd } from '../support/processes.ts';
import { createKubectl } from './kubectl.ts';

export interface Strangers {
  /** Of a pod that listens on port 8080. */
  address: string;
  /** Whether another pod gets a connection. */
  reaches(address: string, port: number): Promise<boolean>;
  /** Closes all that listens here, as a policy would. */
  deny(): Promise<void>;
}

/** A command that fails where no connection is made; curl would wait for an answer. */
export const tryPort = (address: string, port: number) => [
  ...['timeout', '3', 'bash', '-c', `exec 3<>/dev/tcp/${address}/${port}`],
];

export async function startStrangers(): Promise<Strangers> {
  const namespace = `strangers-${Math.random().toString(36).slice(2, 8)}`;
  const { attempt, kubectl } = createKubectl(namespace);
  atEnd(() => attempt(['delete', 'namespace', namespace, '--wait=false']));
  await kubectl(['create', 'namespace', namespace]);
  for (const name of ['asks', 'listens']) await kubectl(['create', '--filename', '-'], renderStranger(name));
  await kubectl(['wait', '--for=condition=Ready', 'pod', '--all', '--timeout=60s']);
  const address = await kubectl(['get', 'pod/listens', '--output=jsonpath={.status.podIP}']);
  const nobody = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'nobody' },
    spec: { podSelector: {}, policyTypes: ['Ingress'] },
  };
  return {
    address,
    async reaches(to, port) {
      const { code } = await attempt(['exec', 'asks', '--', ...tryPort(to, port)]);
      return code === 0;
    },
    async deny() {
      await kubectl(['create', '--filename', '-'], JSON.stringify(nobody));
    },
  };
}

/**
 * A pod that is none of the service's: it serves as the image of nginx does, with no
 * app behind. `security`: what is different
 * from a container that the restricted profile admits.
 */
export function renderStranger(name: string, security: Record<string, unknown> = {}): string {
  const restricted = {
    runAsNonRoot: true,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  };
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name,
          image: 'nginx:local',
          securityContext: { ...restricted, ...security },
        },
      ],
    },
  });
}
