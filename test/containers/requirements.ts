/** Before the tests: an engine, or one clear error. */
import { spawnSync } from 'node:child_process';

const commands = [
  ['docker', 'version', '--format', '{{.Server.Version}}'],
  ['docker', 'compose', 'version', '--short'],
  ['docker', 'buildx', 'version'],
];

export default function requireEngine(): void {
  for (const [command, ...args] of commands as [string, ...string[]][]) {
    const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
    if (status === 0) continue;
    throw new Error(
      `the tests need a running Docker engine with Compose and Buildx on PATH (or DOCKER_HOST); ` +
        `\`${[command, ...args].join(' ')}\` said: ${error?.message ?? stderr.trim()}`,
    );
  }
}
