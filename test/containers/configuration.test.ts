// The configuration of Compose and nginx, judged by those who read it.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

/** What docker says if it fails. */
function ask(args: string[], input = ''): string {
  const { error, status, stdout, stderr } = spawnSync('docker', args, { encoding: 'utf8', input });
  if (error) throw error;
  return status === 0 ? '' : stdout + stderr;
}

const deployed = ['--file', 'docker-compose.yml'];
const development = [...deployed, '--file', '.devcontainer/docker-compose.yml'];

test.each([
  ['the deployed stack', deployed],
  ['the dev container', development],
])('Compose accepts the configuration of %s', (_, files) => {
  expect(ask(['compose', ...files, 'config', '--quiet'])).toBe('');
});

/** What the nginx of the image says of a configuration, as the user that serves. */
function askNginx(configuration: string): string {
  const [, image = ''] = /^FROM (nginx:\S+)/m.exec(readFileSync('deploy/Dockerfile', 'utf8')) ?? [];
  const command = 'cat >/tmp/nginx.conf && nginx -t -q -c /tmp/nginx.conf'; // from stdin: no folder has to be shared
  const args = ['run', '--rm', '--interactive', '--network', 'none', '--user', 'nginx', '--entrypoint', 'sh'];
  return ask([...args, image, '-c', command], configuration);
}

test('nginx accepts its configuration, and would name a mistake', () => {
  const included = (file: string) => readFileSync(join('deploy/nginx', file), 'utf8');
  const text = readFileSync('deploy/nginx.conf', 'utf8')
    .replace('include /etc/nginx/image/*.conf;', included('keepalive.conf'))
    .replaceAll(/include ([\w.-]+);/g, (_, file) => included(file));
  for (const file of readdirSync('deploy/nginx')) expect(text).toContain(included(file));
  expect(askNginx(text)).toBe('');
  expect(askNginx(text.replace('sendfile', 'sendfiles'))).toMatch(/unknown directive "sendfiles"/);
});
