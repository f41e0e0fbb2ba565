import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

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
  /** Puts an image without any file there, with these labels; resolves to its digest. */
  put(repository: string, tag: string, architecture: string, labels: Record<string, string>): Promise<string>;
  /** Every blob and manifest that it stores, by digest. */
  blobs(): string[];
  /** Ends it, and removes what was pulled from it. */
  stop(): void;
}

/** Puts an image without layers into a registry. */
async function putImage(
  api: string,
  ...[repository, tag, architecture, labels]: Parameters<Registry['put']>
): Promise<string> {
  const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`;
  const config = JSON.stringify({
    architecture,
    os: 'linux',
    config: { Labels: labels },
    rootfs: { type: 'layers', diff_ids: [] },
  });
  const manifest = JSON.stringify({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(config),
      size: config.length,
    },
    layers: [],
  });
  const upload = await fetch(`${api}/${repository}/blobs/uploads/`, {
    method: 'POST',
  });
  const place = new URL(upload.headers.get('location') ?? '', upload.url);
  place.searchParams.set('digest', digestOf(config));
  const type = 'application/vnd.oci.image.manifest.v1+json';
  const answers = [
    await fetch(place, {
      method: 'PUT',
      body: config,
      headers: { 'content-type': 'application/octet-stream' },
    }),
    await fetch(`${api}/${repository}/manifests/${tag}`, {
      method: 'PUT',
      body: manifest,
      headers: { 'content-type': type },
    }),
  ];
  for (const { status } of answers) if (status !== 201) throw new Error(`the registry answers ${status}`);
  return digestOf(manifest);
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
    put: (...image) => putImage(`http://127.0.0.1:${port}/v2`, ...image),
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

export interface FailingProxy {
  address: string;
  /** Answers these requests, "METHOD /path", with 503 from now on. */
  fail(which: RegExp): void;
  stop(): void;
}

/** Stands before a registry and lets it fail. `answers`: it answers a request itself, and says so. */
export async function startProxy(
  registry: string,
  answers: (question: IncomingMessage, answer: ServerResponse) => boolean = () => false,
): Promise<FailingProxy> {
  const [host, port] = registry.split(':');
  let failing: RegExp | undefined;
  const server = createServer((question, answer) => {
    const line = `${question.method} ${question.url}`;
    if (failing?.test(line)) {
      answer.writeHead(503).end('out of service');
      return;
    }
    if (answers(question, answer)) {
      question.resume();
      return;
    }
    const { method, url: path, headers } = question;
    const onward = request({ host, port, method, path, headers }, (from) => {
      answer.writeHead(from.statusCode ?? 502, from.headers);
      from.pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    question.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `localhost:${(server.address() as AddressInfo).port}`,
    fail(which) {
      failing = which;
    },
    stop: () => server.close(),
  };
}
