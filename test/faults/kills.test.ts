/** What the kernel ends in a container: a worker for its memory, nginx' worker and master. */
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import {
  attempt,
  cloneRepository,
  inspect,
  prepareStack,
  removeAll,
  type Stack,
} from '../containers/engine.ts';
import { expectInTime, rounds } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { countFailed, expectExact } from '../support/load.ts';
import { delay, waitFor } from '../support/wait.ts';

const minute = 60_000;
const [busy, pausing] = [20, 20];
const load = { busy, pausing, pause: 20, keepAlive: true };

afterEach(removeAll, 2 * minute);

/** A container's processes by what ps would show: id and start. In a container made anew the ids are the same again. */
async function processes(stack: Stack, service: string, title: string): Promise<string[]> {
  const { output } = await stack.shell(
    service,
    `for file in /proc/[0-9]*/cmdline; do
      case "$(tr '\\0' ' ' <$file)" in "${title}"*) file=\${file#/proc/}; file=\${file%/cmdline}; echo $file $(cut -d ' ' -f 22 /proc/$file/stat);; esac
    done 2>/dev/null`, // some end meanwhile
  );
  return output.split('\n').filter(Boolean);
}

/** Ends the first of these processes, and waits until there are as many without it. */
async function kill(stack: Stack, service: string, title: string, signal: string): Promise<void> {
  const before = await processes(stack, service, title);
  const [id] = before[0]?.split(' ') ?? [];
  await stack.shell(service, `kill -${signal} ${id}`);
  const restarted = async () => {
    const after = await processes(stack, service, title);
    return after.length === before.length && `${after}` !== `${before}`;
  };
  await waitFor(restarted, `another ${title}`);
}

test(
  '21: a worker that the kernel ends for its memory is replaced, and no request through nginx is lost',
  async () => {
    const directory = cloneRepository('Memory');
    const eat = join(directory, 'test/faults/eat.cjs');
    chmodSync(eat, 0o644);
    writeFileSync(
      join(directory, 'little.yml'),
      `services: { app: { mem_limit: 400m, memswap_limit: 400m, volumes: ["${eat}:/eat.cjs:ro"],
        environment: { WEB_CONCURRENCY: 2, NODE_OPTIONS: --require /eat.cjs } } }`,
    );
    const stack = await prepareStack(directory);
    await stack.up({ COMPOSE_FILE: 'docker-compose.yml:little.yml' });
    const running = stack.startLoad(load);
    const kills = rounds(5);
    for (let nth = 1; nth <= kills; nth++) {
      await running.waitForAnswers(100);
      await kill(stack, 'app', 'app: worker', 'USR2');
    }
    await running.waitForAnswers(100);
    const report = await running.stop();
    const verdict = await stack.judge();
    const app = await stack.container('app');
    const { output } = await attempt('docker', ['logs', app]);
    const restarts = output.match(/died \(killed by SIGKILL\) and is replaced/g)?.length ?? 0;
    const fault = `the kernel ends a worker for its memory × ${kills}`;
    addRow({ row: '21', fault, load: report, kills, restarts, verdict });
    expectExact(report, verdict);
    expect(restarts).toBe(kills);
    expect(await inspect(app, '.RestartCount')).toBe(0);
  },
  10 * minute,
);

test.each([
  ['worker', 0],
  ['master', 1],
])(
  '22: nginx’ %s killed: what it had in flight fails, no request takes effect twice',
  async (title, restartsOfContainer) => {
    const stack = await prepareStack(cloneRepository(`Nginx${title}`));
    await stack.up();
    const running = stack.startLoad(load);
    const kills = rounds(5);
    let slowest = 0;
    let worst = 0;
    for (let nth = 1; nth <= kills; nth++) {
      await running.waitForAnswers(100);
      const failures = countFailed(await running.look());
      const begin = performance.now();
      await kill(stack, 'nginx', `nginx: ${title}`, 'KILL');
      await running.waitForAnswers(100);
      slowest = Math.max(slowest, performance.now() - begin);
      worst = Math.max(worst, countFailed(await running.look()) - failures);
      await delay(1_000);
    }
    const report = await running.stop();
    const verdict = await stack.judge();
    const restarts = await inspect<number>(await stack.container('nginx'), '.RestartCount');
    const times = [{ what: 'serves again within', took: slowest, bar: 5_000 }];
    const fault = `nginx’ ${title} killed × ${kills}`;
    const seen = `at most ${worst} failed for each kill`;
    addRow({ row: `22 ${title}`, fault, load: report, kills, restarts, verdict, times, seen });
    expect(restarts).toBe(restartsOfContainer * kills);
    expect(verdict.wrong).toEqual([]);
    expect(verdict.unacknowledged).toBeLessThanOrEqual((busy + pausing) * kills);
    if (title === 'worker') expect(worst).toBeLessThanOrEqual(busy + pausing);
    expectInTime(times);
  },
  10 * minute,
);
