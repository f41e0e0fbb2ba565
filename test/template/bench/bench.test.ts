import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type App, startApp } from '../../support/app.ts';
import { startLoad } from '../../support/load.ts';
import { stopAll } from '../../support/processes.ts';
import { freePort, request } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';
import { measureNumbering } from './numbering.ts';
import { type Bar, type Point, plot } from './plot.ts';
import {
  processorTimes,
  type Stack,
  startBareNode,
  startCeiling,
  startExpress,
  startThisStack,
  startTutorial,
  stopStacks,
} from './stacks.ts';
import { measureMeasuring, measureViewers } from './watching.ts';
import { median, type Round, visit } from './wrk.ts';

const rounds = Number(process.env.ROUNDS || 9);
const seconds = Number(process.env.SECONDS || 4);
const connections = 256; // enough that no stack waits for its clients
const minute = 60_000;

const report: string[] = [];
const stacks: Stack[] = [];
let bars: Bar[] = [];
const points: Point[] = [];

const say = (line = '') => {
  report.push(line);
  process.stdout.write(`${line}\n`);
};
const number = (value: number, digits = 0) =>
  value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });

beforeAll(async () => {
  provide({ wrk: 'wrk', '/usr/bin/gunicorn': 'gunicorn python3-flask python3-redis' });
  const [{ model } = { model: 'unknown' }] = cpus();
  say('# Benchmark');
  say();
  say('Made by `npm --prefix test/template run bench`, which writes this file and `plot.svg`.');
  say();
  say(
    `${new Date().toISOString().slice(0, 10)} · ${availableParallelism()} × ${model.trim()}, ` +
      `${number(totalmem() / 2 ** 30)} GiB · Node.js ${process.versions.node} · ${versionOf('nginx', '-v')} · ` +
      `${versionOf('redis-server', '--version')} · clients and all services on this one machine, whose load ` +
      `average was ${number(loadavg()[0] ?? 0, 1)} before (near 0 is right)`,
  );
  say();
  say('![The results as a plot](plot.svg)');
  stacks.push(
    await startThisStack(),
    await startCeiling('whole'),
    await startCeiling('koa'),
    await startTutorial(),
    await startExpress(),
  );
}, 5 * minute);

afterAll(async () => {
  if (bars.length > 0 && points.length > 1) {
    writeFileSync(join(__dirname, 'plot.svg'), plot(bars, points));
    writeFileSync(join(__dirname, 'README.md'), `${report.join('\n')}\n`);
  }
  await stopStacks();
  await stopAll();
}, minute);

/** Installs what is missing on Debian as root, or says what is. */
function provide(needs: Record<string, string>): void {
  for (const [command, packages] of Object.entries(needs)) {
    if (spawnSync('sh', ['-c', `command -v ${command}`]).status === 0) continue;
    const install = `apt-get install --yes --no-install-recommends ${packages}`;
    if (process.getuid?.() !== 0) throw new Error(`the benchmark needs ${command}: \`sudo ${install}\``);
    execFileSync('sh', ['-c', `apt-get -qq update && DEBIAN_FRONTEND=noninteractive ${install}`]);
  }
}

function versionOf(command: string, flag: string): string {
  const { stdout, stderr } = spawnSync(command, [flag], { encoding: 'utf8' });
  return `${command} ${/\d+\.\d+\.\d+/.exec(stdout + stderr)}`;
}

/** Commands that clients have sent so far; what a script calls is no command of a client. */
async function commandsOf({ redis, commands }: Stack): Promise<number> {
  if (!redis) return 0;
  const text = String(await redis.command('INFO', 'commandstats'));
  const calls = (name: string) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(text)?.[1] ?? 0);
  return commands.reduce((sum, name) => sum + calls(name), 0);
}

test(
  'visits a second: this stack against its ceiling, the tutorial and Express',
  async () => {
    const results = new Map<Stack, Round[]>(stacks.map((stack) => [stack, []]));
    const commands = new Map<Stack, number>();
    const costs = new Map<Stack, Record<string, number>[]>(stacks.map((stack) => [stack, []]));
    for (const stack of stacks) await visit(stack.port, connections, 2); // warm
    for (let round = 0; round < rounds; round++) {
      for (const stack of stacks) {
        const before = await commandsOf(stack);
        const timesBefore = processorTimes(stack);
        const result = await visit(stack.port, connections, seconds);
        results.get(stack)?.push(result);
        const times = Object.entries(processorTimes(stack));
        costs
          .get(stack)
          ?.push(
            Object.fromEntries(
              times.map(([part, time]) => [part, (time - (timesBefore[part] ?? 0)) / result.visits]),
            ),
          );
        commands.set(stack, ((await commandsOf(stack)) - before) / result.visits);
      }
    }
    const [ours] = stacks as [Stack];
    const medianOf = (stack: Stack, of: (round: Round) => number) =>
      median((results.get(stack) ?? []).map(of));
    // Of each round its own ratio: what disturbs the machine disturbs neighbours alike.
    const ratio = (one: Stack, to: Stack) =>
      median(
        (results.get(one) ?? []).map(
          ({ perSecond }, round) => perSecond / (results.get(to)?.[round]?.perSecond ?? Number.NaN),
        ),
      );
    say();
    say(`## Visits a second`);
    say();
    say(`${connections} keep-alive connections, ${rounds} rounds of ${seconds} s in turn, medians.`);
    say();
    say('| stack | visits a second | p50 ms | p99 ms | commands to Redis a visit | this stack is × | aim |');
    say('| --- | ---: | ---: | ---: | ---: | ---: | --- |');
    for (const stack of stacks) {
      const cells = [
        stack.name,
        number(medianOf(stack, (round) => round.perSecond)),
        number(
          medianOf(stack, (round) => round.p50),
          1,
        ),
        number(
          medianOf(stack, (round) => round.p99),
          1,
        ),
        number(commands.get(stack) ?? 0, 2),
        number(ratio(ours, stack), 2),
        stack.aim ?? '',
      ];
      say(`| ${cells.join(' | ')} |`);
    }
    const [, , koa, tutorial, express] = stacks as [Stack, Stack, Stack, Stack, Stack];
    say();
    say(
      `Koa alone is × ${number(ratio(koa, tutorial), 2)} the tutorial and × ${number(ratio(koa, express), 2)} ` +
        'Express: no service on Koa is faster here.',
    );
    sayCosts((stack, part) => median((costs.get(stack) ?? []).map((round) => round[part] ?? 0)));
    bars = stacks.map((stack) => ({
      name: stack.name,
      perSecond: medianOf(stack, (round) => round.perSecond),
    }));
    expect(commands.get(ours)).toBeLessThanOrEqual(0.2);
  },
  20 * minute,
);

/** What a visit costs, and of it the way to Redis: all that the same app without Redis does not spend. */
function sayCosts(costOf: (stack: Stack, part: string) => number): void {
  const [ours, without, koa] = stacks as [Stack, Stack, Stack];
  say();
  say('Processor time a visit, in microseconds, medians:');
  say();
  say('| stack | app | nginx | Redis |');
  say('| --- | ---: | ---: | ---: |');
  for (const stack of [ours, without, koa]) {
    const cells = ['app', 'nginx', 'redis'].map((part) => number(costOf(stack, part), 1));
    say(`| ${stack.name} | ${cells.join(' | ')} |`);
  }
  const way = costOf(ours, 'app') - costOf(without, 'app') + costOf(ours, 'redis');
  say();
  say(`The way to Redis takes ${number(way, 1)} µs a visit, Redis' own included (aim: at most 14).`);
}

test(
  'as load grows a visit costs fewer commands to Redis',
  async () => {
    const [ours] = stacks as [Stack];
    say();
    say('## As load grows');
    say();
    say('| connections | visits a second | p99 ms | commands to Redis a visit |');
    say('| ---: | ---: | ---: | ---: |');
    for (const count of [1, 4, 16, 64, 256]) {
      const before = await commandsOf(ours);
      const { visits, perSecond, p99 } = await visit(ours.port, count, seconds);
      const commands = ((await commandsOf(ours)) - before) / visits;
      points.push({ connections: count, commands });
      say(`| ${count} | ${number(perSecond)} | ${number(p99, 1)} | ${number(commands, 2)} |`);
    }
    expect(points.at(-1)?.commands).toBeLessThan(0.2);
  },
  5 * minute,
);

test(
  'latency at half load',
  async () => {
    const [ours, , koa] = stacks as [Stack, Stack, Stack];
    const rate = Math.round((bars[0]?.perSecond ?? 2_000) / 2);
    const p99s = new Map<Stack, number>();
    for (const { stack, name } of [
      { stack: ours, name: 'this stack' },
      { stack: koa, name: 'Koa alone' },
    ]) {
      const load = startLoad({
        ...{ to: { port: stack.port }, request: { path: '/', headers: {} } },
        ...{ busy: connections, pausing: 0, rate, requests: rate * 2 * seconds },
      });
      const { p50, p99, max, ok, sent } = await load.ended;
      p99s.set(stack, p99);
      say();
      say(
        `${number(rate)} visits a second, half of this stack's speed, to ${name}: p50 ${number(p50, 1)}, ` +
          `p99 ${number(p99, 1)}, max ${number(max, 1)} ms.`,
      );
      expect(ok).toBe(sent);
    }
    const ratio = (p99s.get(ours) as number) / (p99s.get(koa) as number);
    say(`This stack's p99 is ${number(ratio, 2)} × Koa's (aim: at most 2).`);
  },
  5 * minute,
);

test(
  'what one Redis numbers',
  async () => {
    say();
    say('## What one Redis numbers');
    say();
    say('Eight connections, each with one batch under way, and this file as their only client.');
    say();
    say("| ids in a batch | ids a second | µs of Redis' processor time an id |");
    say('| ---: | ---: | ---: |');
    for (const size of [1, 10, 100, 1_000]) {
      const { perSecond, cost } = await measureNumbering(size, seconds);
      say(`| ${number(size)} | ${number(perSecond)} | ${number(cost, 2)} |`);
    }
  },
  5 * minute,
);

test(
  'what watching costs',
  async () => {
    const stack = await startThisStack(2, { DASHBOARD: 'open' });
    const share = await measureViewers(stack, { rounds, seconds, connections });
    say();
    say('## What watching costs');
    say();
    say(
      `While 50 tabs show the number and 50 the plots, ${number(share, 2)} of the visits a second without them ` +
        `are served (aim: at least 0.95).`,
    );
    say(
      `Measuring costs ${number(await measureMeasuring(), 2)} µs of processor time a request (aim: at most 2).`,
    );
  },
  10 * minute,
);

test(
  'workers, starts and reloads',
  async () => {
    await stopStacks();
    await stopAll();
    say();
    say('## Workers');
    say();
    say('| workers | visits a second | p99 ms |');
    say('| ---: | ---: | ---: |');
    const counts = [1, 2, 4];
    const running = new Map<number, Stack>();
    for (const workers of counts) running.set(workers, await startThisStack(workers));
    const results = new Map<number, Round[]>(counts.map((workers) => [workers, []]));
    for (let round = 0; round < Math.ceil(rounds / 2); round++) {
      for (const [workers, { port }] of running) {
        results.get(workers)?.push(await visit(port, connections, seconds));
      }
    }
    for (const workers of counts) {
      const all = results.get(workers) ?? [];
      const perSecond = median(all.map((round) => round.perSecond));
      const p99 = median(all.map((round) => round.p99));
      say(`| ${workers} | ${number(perSecond)} | ${number(p99, 1)} |`);
    }

    const reloads: number[] = [];
    const { app } = running.get(2) as { app: App };
    for (let nth = 1; nth <= rounds; nth++) {
      const begin = performance.now();
      app.kill('SIGHUP');
      await app.waitForLog(/^reloaded/, { nth });
      reloads.push(performance.now() - begin);
    }
    await stopAll();

    const starts = { this: [] as number[], bare: [] as number[] };
    for (let round = 0; round < rounds; round++) {
      starts.this.push(
        await timeStart(async () => (await startApp({ env: { WEB_CONCURRENCY: '2' } })).address),
      );
      starts.bare.push(await timeStart(startBareNode));
      await stopStacks();
      await stopAll();
    }
    say();
    say('## Starts and sizes');
    say();
    say('| what | |');
    say('| --- | ---: |');
    say(`| from start to the first visit, two workers | ${number(median(starts.this))} ms |`);
    say(`| the same for node:http alone, one process | ${number(median(starts.bare))} ms |`);
    say(`| reload of two workers, SIGHUP to new code serving | ${number(median(reloads))} ms |`);
    for (const [what, value] of [...(await measureImages()), ...measureDevContainer()])
      say(`| ${what} | ${value} |`);
  },
  10 * minute,
);

async function timeStart(start: () => Promise<Parameters<typeof request>[0]>): Promise<number> {
  const begin = performance.now();
  const address = await start();
  await waitFor(async () => (await request(address)).status === 200, 'the first visit');
  return performance.now() - begin;
}

/** Of the images, if there is an engine: sizes, and the time until a container answers. */
async function measureImages(): Promise<[string, string][]> {
  if (spawnSync('docker', ['info']).status !== 0) return [['images', 'no Docker engine here']];
  const docker = (...args: string[]) => execFileSync('docker', args, { encoding: 'utf8' }).trim();
  const rows: [string, string][] = [];
  const bare = 'node:26-trixie-slim'; // what the app's image begins with (deploy/Dockerfile)
  const sizeOf = (image: string) => Number(docker('image', 'inspect', '--format', '{{.Size}}', image)) / 1e6;
  const build = ['build', '--quiet', '--file', 'deploy/Dockerfile', '--target'];
  const app = docker(...build, 'app', '.');
  rows.push(['image of the app', `${number(sizeOf(app))} MB, of which Node.js ${number(sizeOf(bare))} MB`]);
  rows.push(['image of nginx', `${number(sizeOf(docker(...build, 'nginx', '.')))} MB`]);
  const code = "require('node:http').createServer((_, answer) => answer.end('1')).listen(8080)";
  for (const [what, image, command] of [
    ['from `docker run` to the first visit', app, []],
    ['the same for node:http alone', bare, ['node', '-e', code]],
  ] as const) {
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      const port = await freePort();
      const publish = ['--publish', `127.0.0.1:${port}:8080`, '--env', 'LISTEN=8080'];
      let container = '';
      const time = await timeStart(async () => {
        container = docker('run', '--detach', ...publish, image, ...command);
        return { port };
      });
      docker('rm', '--force', container);
      times.push(time);
    }
    rows.push([what, `${number(median(times))} ms`]);
  }
  return rows;
}

/** What the suite of the dev container prints, if there is an engine. */
function measureDevContainer(): [string, string][] {
  if (spawnSync('docker', ['info']).status !== 0) return [];
  const args = ['test', '--', 'containers', 'devcontainer', '-t', 'opening|a save|opened again'];
  const output = execFileSync('npm', args, { encoding: 'utf8' });
  const [, first, second] = /first answer: ([\d.]+) s; up again: ([\d.]+) s/.exec(output) ?? [];
  const [, saves] = /new answer of all workers: ([\d, ]+)/.exec(output) ?? [];
  if (!first || !second || !saves) throw new Error(`no times in:\n${output}`);
  return [
    ['from `devcontainer up` to the first visit', `${number(Number(first), 1)} s`],
    ['`devcontainer up` again', `${number(Number(second), 1)} s`],
    ['in the dev container, from a save to the new answer of all workers', `${saves} ms`],
  ];
}
