/** A server whose disk is full: the volume of Redis is a small tmpfs, which a file fills. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import {
  cloneRepository,
  docker,
  inspect,
  prepareStack,
  removeAll,
  startContainer,
} from '../../containers/engine.ts';
import { expectInTime, rounds } from '../../support/battery/harness.ts';
import { addRow } from '../../support/battery/table.ts';
import { delay, waitFor } from '../../support/wait.ts';

const minute = 60_000;

afterEach(removeAll, 2 * minute);

const volume = `volumes: { redis: { driver_opts: { type: tmpfs, device: tmpfs, o: "size=16m,uid=999" } } }`;

test(
  '20: while the disk of Redis is full visits are refused; afterwards none is lost or counted twice',
  async () => {
    const directory = cloneRepository('Full');
    writeFileSync(join(directory, 'small.yml'), volume);
    const stack = await prepareStack(directory);
    const variables = { COMPOSE_FILE: 'docker-compose.yml:small.yml' };
    await stack.up(variables);
    // The volume is there for as long as something mounts it, and Redis ends at a write that fails.
    const holder = ['--volume', `${stack.name}_redis:/data`, '--user', '999', stack.image('redis')];
    const disk = await startContainer(...holder, 'sleep', 'infinity');
    const inDisk = (command: string) => docker('exec', disk, 'sh', '-c', command);

    const load = stack.startLoad();
    const floods = rounds(3);
    let slowest = 0;
    for (let flood = 1; flood <= floods; flood++) {
      await delay(2_000);
      await inDisk('cat /dev/zero >/data/ballast || true');
      const refused = (await load.look()).refused;
      await waitFor(async () => (await load.look()).refused > refused + 10, 'visits to be refused');
      await inDisk('rm /data/ballast');
      const begin = performance.now();
      await load.waitForAnswers(10);
      slowest = Math.max(slowest, performance.now() - begin);
    }
    const report = await load.stop();
    const verdict = await stack.judge();
    const restarts = await inspect<number>(await stack.container('redis'), '.RestartCount');
    const times = [{ what: 'back within', took: slowest, bar: 10_000 }];
    const fault = `the disk of Redis full × ${floods}`;
    addRow({ row: '20', fault, load: report, restarts, verdict, times });
    expect(restarts).toBeGreaterThan(0);
    expect(report).toMatchObject({ ok: report.sent - report.refused, failed: {} });
    expect(verdict).toEqual({ wrong: [], unacknowledged: 0 });
    expectInTime(times);
  },
  10 * minute,
);
