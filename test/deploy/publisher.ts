/** What the pipeline publishes, made in a moment: the service's images with the label of a commit. */
import { docker, execute } from '../containers/engine.ts';
import type { Registry } from '../pipeline/registry.ts';
import { git } from '../support/repository.ts';

interface Options<Service extends string> {
  /** Of the repository. */
  directory: string;
  registry: Registry;
  /** What deploys and what runs the images reach the registry at. */
  address: string;
  /** The repository in the registry, of each service's images. */
  names: Record<Service, string>;
  /** What the published images are built from. */
  images: Record<Service, string>;
}

export function createPublisher<Service extends string>(options: Options<Service>) {
  const { directory, registry, address, names, images } = options;
  return {
    /** Makes a commit; returns its hash. */
    commit(): string {
      git(directory, 'commit', '--quiet', '--allow-empty', '--message', 'change');
      return git(directory, 'rev-parse', 'HEAD');
    },
    /** Publishes a commit under a tag, and returns what the pipeline hands on. `more`: lines for a service's Dockerfile. */
    async publish(tag: string, sha: string, more: Partial<Record<Service, string>> = {}): Promise<string> {
      const published = (Object.keys(names) as Service[]).map(async (service) => {
        const image = `${address}/${names[service]}:${tag}`;
        const label = `LABEL org.opencontainers.image.revision=${sha}`;
        const input = `FROM ${images[service]}\n${label}\n${more[service] ?? ''}\n`;
        await execute('docker', ['build', '--quiet', '--tag', image, '-'], { input });
        await docker('push', '--quiet', image);
        const { [tag]: digest } = await registry.tags(names[service]);
        return [service, `${address}/${names[service]}@${digest}`];
      });
      return JSON.stringify(Object.fromEntries(await Promise.all(published)));
    },
  };
}
