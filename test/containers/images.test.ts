import { readFileSync } from 'node:fs';
import { afterAll, expect } from '@jest/globals';
import { waitFor } from '../support/wait.ts';
import {
  attempt,
  cloneRepository,
  createVolume,
  docker,
  inspect,
  prepare,
  prepareStack,
  removeAll,
  scenario,
  startBackedNetwork,
  startContainer,
} from './engine.ts';

let app: string;
let nginx: string;
let redis: string;
prepare(async () => {
  const stack = await prepareStack(cloneRepository('Images'));
  [app, nginx, redis] = ['app', 'nginx', 'redis'].map(stack.image) as [string, string, string];
  if (app.startsWith(stack.name)) await stack.compose(['build', '--quiet']);
});
afterAll(removeAll, 60_000);

interface ImageConfig {
  User: string;
  Cmd: string[];
  Healthcheck: { Test: string[] };
  Labels: Record<string, string>;
}

/** Runs a shell command in a container of the image that is gone afterwards. */
const shell = (image: string, command: string, ...args: string[]) =>
  attempt('docker', ['run', '--rm', ...args, '--entrypoint', 'sh', image, '-c', command]);

const checkHealth = (container: string) =>
  attempt('docker', ['exec', container, 'node', '/usr/local/lib/healthcheck.cjs']);

// Packages for development are more than a hundred megabytes, npm and headers 70; what a copy adds for itself has room.
scenario("the app's image is at least 50 MB smaller than Node's own, for it has no npm", async () => {
  const [, base] = /^FROM (node:\S+)/m.exec(readFileSync('deploy/Dockerfile', 'utf8')) as unknown as [
    string,
    string,
  ];
  const smaller = (await inspect<number>(base, '.Size')) - (await inspect<number>(app, '.Size'));
  expect(smaller / 1e6).toBeGreaterThanOrEqual(50);
});

scenario('Node has one version, written once', async () => {
  const dockerfile = readFileSync('deploy/Dockerfile', 'utf8');
  expect(dockerfile.match(/\bnode:\d/g)).toHaveLength(1);
});

scenario('the images say what they are, and start their process without a shell', async () => {
  for (const image of [app, nginx, redis]) {
    const config = await inspect<ImageConfig>(image, '.Config');
    expect(config.Cmd[0]).not.toMatch(/\bsh$/);
    if (image !== redis) expect(config.Healthcheck.Test[0]).toBe('CMD');
    for (const name of ['title', 'description', 'licenses']) {
      expect(config.Labels[`org.opencontainers.image.${name}`]).toMatch(/\S/);
    }
  }
  expect((await inspect<ImageConfig>(app, '.Config')).Healthcheck.Test.join(' ')).not.toMatch(/curl|wget/);
});

scenario('nobody who runs in the images is root, or owns what he runs', async () => {
  for (const [image, files] of [
    [app, '/app'],
    [nginx, '/etc/nginx /srv/static'],
    [redis, '/usr/local/bin /etc/redis/redis.acl'],
  ] as const) {
    const { output } = await shell(
      image,
      `id -u; for file in ${files}; do [ ! -e $file ] || find $file ! -user root -o ! -group root -o -perm /002 ! -type l; done | wc -l`,
    );
    expect(output).toMatch(/^[1-9]\d*\n0\n$/);
  }
});

scenario('the image of the app has what runs and nothing else', async () => {
  const { output } = await shell(
    app,
    'ls; ls dist node_modules; find dist -name "*.ts" -o -name "*.test.js"',
  );
  expect(output).toMatch(/^main\.js$/m);
  expect(output).toMatch(/^koa$/m);
  expect(output).not.toMatch(/^(src|test|jest|typescript|\.env.*)$|\.ts$|\.test\.js$/m);
});

scenario('two containers on one socket know their own health from that of the other', async () => {
  const volume = await createVolume();
  const backing = await startBackedNetwork(redis);
  const first = await startContainer('--volume', `${volume}:/run/app`, ...backing, app);
  await waitFor(async () => (await checkHealth(first)).code === 0, 'the first to be healthy', 30_000);
  const second = await startContainer('--volume', `${volume}:/run/app`, ...backing, app);
  await waitFor(async () => (await checkHealth(second)).code === 0, 'the second to be healthy', 30_000);
  expect(await checkHealth(first)).toMatchObject({ code: 1, output: expect.stringMatching(/^200 from /) });
});

scenario(
  'a container without a way out, a file system to write to or a capability still serves',
  async () => {
    const backing = await startBackedNetwork(redis, '--internal');
    const container = await startContainer(
      ...['--read-only', '--cap-drop', 'ALL', '--tmpfs', '/tmp', '--env', 'LISTEN=8080'],
      ...['--security-opt', 'no-new-privileges', ...backing, app],
    );
    await waitFor(async () => (await checkHealth(container)).code === 0, 'it to be healthy', 30_000);
  },
);

scenario('docker stop ends the app with code 0', async () => {
  const container = await startContainer(...(await startBackedNetwork(redis)), app);
  await waitFor(async () => (await checkHealth(container)).code === 0, 'it to be healthy', 30_000);
  await docker('stop', '--time', '30', container);
  expect(await inspect<number>(container, '.State.ExitCode')).toBe(0);
});

scenario('the configuration in the nginx image is valid where nothing but /tmp can be written', async () => {
  const { output } = await shell(nginx, 'nginx -t', '--read-only', '--tmpfs', '/tmp', '--cap-drop', 'ALL');
  expect(output).toMatch(/test is successful/);
});
