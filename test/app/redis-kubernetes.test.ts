import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { parse, parseAllDocuments } from 'yaml';

const local = 'deploy/kubernetes/overlays/local';
const read = (path: string) => readFileSync(path, 'utf8');

describe('on Kubernetes', () => {
  if (!existsSync('deploy/kubernetes')) {
    test.skip('there is nothing: this copy was applied without deploy/kubernetes', () => {});
    return;
  }

  const set = parseAllDocuments(read(`${local}/redis.yaml`))
    .map((document) => document.toJS())
    .find(({ kind }) => kind === 'StatefulSet');
  const [redis] = set.spec.template.spec.containers;
  const [, image = ''] = /AS redis\n(.*?)\n\n\n/s.exec(read('deploy/Dockerfile')) ?? [];

  test('Redis has the options and rights of its image, and no others', () => {
    expect(redis).not.toHaveProperty('command');
    expect(redis).not.toHaveProperty('args');
  });

  test('its claim belongs to the user of its image', () => {
    expect(String(set.spec.template.spec.securityContext.fsGroup)).toBe(/^USER (\d+)/m.exec(image)?.[1]);
  });

  test('its memory holds what it keeps twice, as while it rewrites its file', () => {
    const megabytes = Number(/REDIS_MAXMEMORY:-(\d+)mb/.exec(read('deploy/redis-start'))?.[1]);
    expect(Number.parseInt(redis.resources.limits.memory, 10)).toBeGreaterThanOrEqual(2 * megabytes);
  });

  test('the app finds it by the URL of Compose', () => {
    const { literals } = parse(read(`${local}/kustomization.yaml`)).configMapGenerator[0];
    const { REDIS_URL } = parse(read('docker-compose.yml'), { merge: true }).services.app.environment;
    expect(literals).toEqual([`REDIS_URL=${REDIS_URL}`]);
  });
});
