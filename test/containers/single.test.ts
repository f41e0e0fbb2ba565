import { afterAll, expect } from '@jest/globals';
import { ask } from '../support/load.ts';
import { type Answer, freePort } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';
import {
  attempt,
  buildImage,
  cloneRepository,
  docker,
  inspect,
  prepare,
  type Result,
  removeAll,
  scenario,
  startBackedNetwork,
  startContainer,
} from './engine.ts';

let image: string;
let backing: string[];
prepare(async () => {
  const clone = cloneRepository('Single');
  image = await buildImage(clone, 'single');
  backing = await startBackedNetwork(await buildImage(clone, 'redis'));
});
afterAll(removeAll, 60_000);

interface Single {
  id: string;
  ask(): Promise<Answer>;
  shell(command: string): Promise<Result>;
}

async function start(...args: string[]): Promise<Single> {
  const inside = args.find((arg) => arg.startsWith('PORT='))?.slice(5) ?? 8080;
  const port = await freePort();
  const id = await startContainer('--publish', `127.0.0.1:${port}:${inside}`, ...backing, ...args, image);
  return {
    id,
    ask: () => ask({ port }),
    shell: (command) => attempt('docker', ['exec', id, 'sh', '-c', command]),
  };
}

/** A shell command that lists the ids of processes by what ps would show. */
const processes = (title: string) =>
  `for file in /proc/[0-9]*/cmdline; do
    case "$(tr '\\0' ' ' <$file)" in "${title}"*) file=\${file#/proc/}; echo \${file%/cmdline};; esac
  done 2>/dev/null`; // some end meanwhile

const hardened = [
  ...['--read-only', '--tmpfs', '/tmp', '--tmpfs', '/run/app:uid=101'],
  ...['--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
  ...['--env', 'PORT=3000', '--env', 'http_proxy=http://127.0.0.1:1'], // which the health check must not ask
];

scenario(
  'one container serves: no root, nothing to write to but /tmp and the socket, both logs in one',
  async () => {
    const single = await start(...hardened);
    await waitFor(single.ask, 'an answer', 30_000);
    await waitFor(
      async () => (await inspect(single.id, '.State.Health.Status')) === 'healthy',
      'health',
      30_000,
    );
    expect((await single.shell('id -u')).output).toMatch(/^[1-9]\d*$/m);
    const answered = /"uri":"[^"]+","protocol":"HTTP\/1.1","status":"200"/;
    const log = await waitFor(async () => {
      const { output } = await attempt('docker', ['logs', single.id]);
      return answered.test(output) && output;
    }, 'the line of an answer');
    expect(log).toMatch(/"msg":"serving/);
  },
);

scenario('either of nginx and the app is started again when it is killed', async () => {
  const single = await start();
  await waitFor(single.ask, 'an answer', 30_000);
  for (const title of ['nginx: master', 'app: primary']) {
    const before = (await single.shell(processes(title))).output;
    expect(before).toMatch(/^\d+\n$/);
    await single.shell(`kill -9 ${before}`);
    const after = await waitFor(
      async () => {
        const { output } = await single.shell(processes(title));
        return /\d/.test(output) && output !== before && output;
      },
      `another ${title}`,
      30_000,
    );
    expect(after).toMatch(/^\d+\n$/);
    await waitFor(single.ask, 'an answer', 30_000);
  }
  expect(await inspect(single.id, '.State.Running')).toBe(true);
});

scenario('a request in flight at SIGTERM is answered, and the exit code is 0', async () => {
  const single = await start();
  await waitFor(single.ask, 'an answer', 30_000);
  const workers = (await single.shell(processes('app: worker'))).output.replaceAll('\n', ' ');
  await single.shell(`kill -STOP ${workers}`);
  const answer = single.ask();
  const end = docker('stop', '--time', '60', single.id);
  await waitFor(
    async () => /SIGTERM/.test((await attempt('docker', ['logs', single.id])).output),
    'supervisord to get the signal',
    30_000,
  );
  await single.shell(`kill -CONT ${workers}`);
  expect((await answer).status).toBe(200);
  await end;
  expect(await inspect(single.id, '.State.ExitCode')).toBe(0);
});

scenario('the exit code is not 0 when the app could not finish', async () => {
  const single = await start('--env', 'GRACEFUL_TIMEOUT=0.2');
  await waitFor(single.ask, 'an answer', 30_000);
  const [worker] = (await single.shell(processes('app: worker'))).output.split('\n');
  await single.shell(`kill -STOP ${worker}`);
  await docker('stop', '--time', '60', single.id);
  expect(await inspect(single.id, '.State.ExitCode')).toBe(1);
});

scenario(
  'an app that cannot start ends the container, with its reason and a code that is not 0',
  async () => {
    const single = await start('--env', 'WORKER_TIMEOUT=soon');
    expect(await docker('wait', single.id)).toBe('1');
    expect((await attempt('docker', ['logs', single.id])).output).toMatch(/WORKER_TIMEOUT is "soon"/);
  },
);

scenario('what an earlier start has left changes neither the health check nor the exit code', async () => {
  const single = await start();
  await waitFor(
    async () => (await single.shell('cat /tmp/probe')).output === '8081/metrics\n',
    'health',
    30_000,
  );
  await single.shell('echo 1 >/tmp/fatal.code');
  await docker('stop', '--time', '60', single.id);
  expect(await inspect(single.id, '.State.ExitCode')).toBe(1); // so the file counts
  await docker('start', single.id);
  await waitFor(single.ask, 'an answer', 30_000);
  await docker('stop', '--time', '60', single.id);
  expect(await inspect(single.id, '.State.ExitCode')).toBe(0);
});

scenario('a service whose primary process hangs is not healthy, although its workers answer', async () => {
  const single = await start();
  const check = (await inspect<string[]>(image, '.Config.Healthcheck.Test')).at(-1) as string;
  const isHealthy = async () => (await single.shell(check)).code === 0;
  await waitFor(
    async () => (await single.shell('cat /tmp/probe')).output === '8081/metrics\n',
    'health',
    30_000,
  );
  expect(await isHealthy()).toBe(true);
  await single.shell(`kill -STOP ${(await single.shell(processes('app: primary'))).output}`);
  expect((await single.ask()).status).toBe(200);
  expect(await isHealthy()).toBe(false);
});
