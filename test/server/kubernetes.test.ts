import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { parse, parseAllDocuments } from 'yaml';
import { parseDuration } from '../support/durations.ts';

// What the manifests must repeat, because Kubernetes reads no other file: it has to be what the other file says.

const read = (path: string) => readFileSync(path, 'utf8');
const base = 'deploy/kubernetes/base';

describe('the manifests say', () => {
  if (!existsSync('deploy/kubernetes')) {
    test.skip('there is nothing: this copy was applied without deploy/kubernetes', () => {});
    return;
  }

  const nginx = read('deploy/nginx.conf');
  const dockerfile = read('deploy/Dockerfile');
  const compose = parse(read('docker-compose.yml'), { merge: true });
  const settings = Object.fromEntries(
    parse(read(`${base}/kustomization.yaml`)).configMapGenerator[0].literals.map((literal: string) =>
      literal.split(/=(.*)/s).slice(0, 2),
    ),
  );
  const [deployment] = parseAllDocuments(read(`${base}/service.yaml`))
    .map((document) => document.toJS())
    .filter(({ kind }) => kind === 'Deployment');
  const pod = deployment.spec.template.spec;
  const [app] = pod.initContainers;
  const [proxy] = pod.containers;
  const pathOf = (volume: string, { volumeMounts }: typeof app) =>
    volumeMounts.find(({ name }: { name: string }) => name === volume).mountPath;

  test('nginx is the main container, which is stopped first, and the app a sidecar', () => {
    expect([app.name, app.restartPolicy, proxy.name]).toEqual(['app', 'Always', 'nginx']);
  });

  test('a pod has time for all that its stop may take', () => {
    const shutdown = parseDuration(/worker_shutdown_timeout (\w+);/.exec(nginx)?.[1]) / 1_000;
    expect(proxy.lifecycle.preStop.exec.command).toEqual(['sleep', expect.stringMatching(/^\d+$/)]);
    const pause = Number(proxy.lifecycle.preStop.exec.command[1]);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(
      pause + shutdown + Number(settings.GRACEFUL_TIMEOUT),
    );
    expect(settings.GRACEFUL_TIMEOUT).toBe(String(compose.services.app.environment.GRACEFUL_TIMEOUT));
  });

  test('both containers have the socket where the image of the app and nginx have it', () => {
    const socket = /^ENV LISTEN=(\S+)/m.exec(dockerfile)?.[1];
    expect(nginx).toContain(`server unix:${socket} `);
    for (const container of [app, proxy])
      expect(socket).toMatch(new RegExp(`^${pathOf('socket', container)}/[^/]+$`));
  });

  test('what docs/kubernetes.md mounts to name proxies is where nginx includes it', () => {
    const [, block = ''] = /```yaml\n(configMapGenerator:[\s\S]*?)```/.exec(read('docs/kubernetes.md')) ?? [];
    const { configMapGenerator, patches } = parse(block);
    const [volume, mount] = parse(patches[0].patch);
    expect([volume.path, mount.path]).toEqual([
      '/spec/template/spec/volumes/-',
      `/spec/template/spec/containers/${pod.containers.indexOf(proxy)}/volumeMounts/-`,
    ]);
    expect(volume.value.name).toBe(mount.value.name);
    expect(volume.value.configMap.name).toBe(configMapGenerator[0].name);
    expect(configMapGenerator[0].literals[0]).toMatch(/^\w+\.conf=set_real_ip_from [\d./]+;$/);
    expect(nginx).toContain(`include ${mount.value.mountPath}/*.conf;`);
  });

  test('the ports are those on which nginx listens', () => {
    const listens = [...nginx.matchAll(/^ *listen (\d+)/gm)].map(([, port]) => Number(port));
    expect(proxy.ports.map(({ containerPort }: { containerPort: number }) => containerPort)).toEqual(listens);
  });

  test('the service may ask for names wherever the cluster answers them, on either port', () => {
    const policies = parseAllDocuments(read(`${base}/policies.yaml`)).map((document) => document.toJS());
    const egress = policies.flatMap(({ spec }) => spec.egress ?? []);
    const anywhere = egress.filter(({ to }) => to === undefined).flatMap(({ ports }) => ports);
    for (const port of [53, 5353]) {
      for (const protocol of ['UDP', 'TCP']) expect(anywhere).toContainEqual({ port, protocol });
    }
  });

  test('the start is judged by the health check of the image', () => {
    const [, command = ''] = /HEALTHCHECK[^[]*(\[[^\]]*healthcheck[^\]]*\])/.exec(dockerfile) ?? [];
    expect(app.startupProbe.exec.command).toEqual(JSON.parse(command));
  });

  test('the heaps of the primary and of a worker for each core fit below the memory of the app', () => {
    const heap = Number(/--max-old-space-size=(\d+)/.exec(settings.NODE_OPTIONS)?.[1]);
    const workers = Math.ceil(Number.parseInt(app.resources.requests.cpu, 10) / 1_000);
    expect(app.resources.requests.memory).toBe(app.resources.limits.memory);
    expect((1 + workers) * heap).toBeLessThan(Number.parseInt(app.resources.limits.memory, 10));
  });
});
