import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';

export const docker = (...args: string[]) =>
  execFileSync('docker', args, { encoding: 'utf8', maxBuffer: 1 << 26 }).trim();

const manifests = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

export interface Manifest {
  config?: { digest: string };
  manifests?: { digest: string; platform: { architecture: string } }[];
}

export interface Registry {
  address: string;
  /** Each tag of a repository, with the digest that it points at. */
  tags(repository: string): Promise<Record<string, string>>;
  manifest(repository: string, reference: string): Promise<Manifest>;
  repositories(): Promise<string[]>;
  /** Every blob and manifest that it stores, by digest. */
  blobs(): string[];
  /** Ends it, and removes what was pulled from it. */
  stop(): void;
}

/** A registry of our own on a free port. */
export function startRegistry(): Registry {
  const name = `test-pipeline-${randomUUID()}`;
  docker('run', '--detach', '--name', name, '--publish', '127.0.0.1::5000', 'registry:2');
  const port = /\d+$/.exec(docker('port', name, '5000/tcp').split('\n')[0] ?? '')?.[0];
  const address = `localhost:${port}`;
  const ask = (path: string) =>
    fetch(`http://127.0.0.1:${port}/v2/${path}`, { headers: { accept: manifests.join(', ') } });
  return {
    address,
    async tags(repository) {
      const list = (await (await ask(`${repository}/tags/list`)).json()) as { tags?: string[] };
      const digests: Record<string, string> = {};
      for (const tag of (list.tags ?? []).sort()) {
        digests[tag] =
          (await ask(`${repository}/manifests/${tag}`)).headers.get('docker-content-digest') ?? '';
      }
      return digests;
    },
    manifest: async (repository, reference) =>
      (await (await ask(`${repository}/manifests/${reference}`)).json()) as Manifest,
    repositories: async () =>
      ((await (await ask('_catalog')).json()) as { repositories: string[] }).repositories,
    blobs: () =>
      docker('exec', name, 'find', '/var/lib/registry', '-name', 'data').split('\n').filter(Boolean).sort(),
    stop() {
      docker('rm', '--force', '--volumes', name);
      const pulled = docker('image', 'ls', '--quiet', '--filter', `reference=${address}/*/*`);
      const below = docker('image', 'ls', '--quiet', '--filter', `reference=${address}/*/*/*`);
      const images = new Set(`${pulled}\n${below}`.split('\n').filter(Boolean));
      if (images.size > 0) docker('image', 'rm', '--force', ...images);
    },
  };
}
