import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { bounds, WorkerMetrics } from '../../src/server/worker-metrics.ts';
import { type App, startApp } from '../support/app.ts';
import { sample } from '../support/judgement.ts';
import { startNginx } from '../support/nginx.ts';
import { stopAll, temporaryDirectory } from '../support/processes.ts';
import { type Address, request } from '../support/requests.ts';
import { delay, waitFor } from '../support/wait.ts';

afterEach(stopAll);

async function scrape(from: Address): Promise<{ text: string; value(metric: string): number }> {
  const { status, body } = await request(from, '/metrics');
  if (status !== 200) throw new Error(`/metrics answers ${status}`);
  const value = (metric: string) =>
    body
      .split('\n')
      .filter((line) => line.startsWith(metric) && /[ {]/.test(line[metric.length] ?? ''))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
  return { text: body, value };
}

const requests = 'http_server_request_duration_seconds_count';
const ask = (app: App) => request(app.address, sample.path, { headers: sample.headers });
const times = (n: number, what: () => Promise<unknown>) => Promise.all(Array.from({ length: n }, what));

test('a duration falls into the bucket whose bound it does not exceed', () => {
  const metrics = new WorkerMetrics();
  for (const seconds of [0.0005, 0.0006, 11]) metrics.observe('tried', seconds);
  const [{ counts, sum } = { counts: [], sum: 0 }] = metrics.read('tried');
  expect([counts[0], counts[1], counts.at(-1)]).toEqual([1, 1, 1]);
  expect(counts.length).toBe(bounds.length + 1);
  expect(sum).toBeCloseTo(11.0011);
});

test('numbers of all workers are added up, and go on when workers die, are frozen or replaced', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', METRICS: 'open' } });
  await times(30, () => ask(app));
  const counted = async (n: number) =>
    waitFor(async () => {
      const { value } = await scrape(app.address);
      return value(requests) >= n && value;
    }, `${n} requests`);
  await counted(30);
  const [first, second] = app.workers() as [number, number];
  process.kill(first, 'SIGKILL');
  await app.waitForLog(/ died /);
  expect((await scrape(app.address)).value(requests)).toBeGreaterThanOrEqual(30);
  const value = await waitFor(async () => {
    const { value } = await scrape(app.address);
    return value('app_worker_starts_total{reason="died"}') === 1 && value;
  }, 'the successor');
  expect([value('app_workers_wanted'), value('app_workers')]).toEqual([2, 2]);
  expect(second).toBeDefined();
  await times(30, () => ask(app));
  app.kill('SIGHUP');
  await app.waitForLog(/^reloaded/);
  await counted(60);
  expect((await scrape(app.address)).value('app_worker_starts_total{reason="reload"}')).toBe(2);
});

test('methods and routes that a client makes up are counted as one', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', METRICS: 'open' } });
  for (const path of ['/made-up', '/another', '/third']) await request(app.address, path);
  await request(app.address, '/', { method: 'PROPFIND' });
  const text = await waitFor(async () => {
    const { text } = await scrape(app.address);
    return text.includes('_OTHER') && text;
  }, 'the numbers');
  expect(text).toMatch(/_count\{http_request_method="GET",http_response_status_code="404",http_route=""\} 3/);
  expect(text).not.toMatch(/made-up|PROPFIND/);
});

test('nginx answers with the metrics on its private port alone, at once even if a worker is frozen', async () => {
  const socketPath = join(temporaryDirectory(), 'app.sock');
  const app = await startApp({ env: { WEB_CONCURRENCY: '2', LISTEN: socketPath, WORKER_TIMEOUT: '60' } });
  const nginx = await startNginx(socketPath);
  await times(20, () => request(nginx, sample.path, { headers: sample.headers }));
  expect((await request(nginx.private, sample.path)).status).toBe(sample.path === '/readyz' ? 200 : 404);
  const frozen = app.workers()[0] as number;
  process.kill(frozen, 'SIGSTOP');
  try {
    const slowest = Math.max(
      ...((await times(10, async () => {
        const begin = performance.now();
        await scrape(nginx.private);
        return performance.now() - begin;
      })) as number[]),
    );
    expect(slowest).toBeLessThan(1_500);
  } finally {
    process.kill(frozen, 'SIGCONT');
  }
});

/** What might be taken for a path, the path itself first. */
function spell(path: string): string[] {
  const name = path.slice(1);
  const encoded = `%${name.charCodeAt(0).toString(16)}${name.slice(1)}`;
  const others = [`${path}/`, path.toUpperCase(), `/${encoded}`, `/${path}`, `/.${path}`];
  return [path, ...others, `${path}/?a`, `${path};a`];
}

const forged = { headers: { 'X-Private': '1' } };

test('/metrics and /readyz are answered on the private port of nginx alone, however they are spelled', async () => {
  const socketPath = join(temporaryDirectory(), 'app.sock');
  await startApp({ env: { WEB_CONCURRENCY: '1', LISTEN: socketPath, METRICS: 'open' }, backed: true });
  const nginx = await startNginx(socketPath);
  for (const path of [...spell('/metrics'), ...spell('/readyz')]) {
    expect([path, (await request(nginx, path, forged)).status]).toEqual([path, 404]);
  }
  for (const path of ['/metrics', '/readyz']) {
    expect((await request({ socketPath }, path)).status).toBe(404);
    expect((await request(nginx.private, path)).status).toBe(200);
  }
});

test.each([
  ['closed', []],
  ['open', ['/metrics']],
])('at a port /readyz is answered, and with METRICS=%s %j of all spellings', async (METRICS, expected) => {
  const { address } = await startApp({ env: { WEB_CONCURRENCY: '1', METRICS }, backed: true });
  expect((await request(address, '/readyz')).status).toBe(200);
  const answered: string[] = [];
  for (const path of spell('/metrics')) {
    if ((await request(address, path, forged)).status < 300) answered.push(path);
  }
  expect(answered).toEqual(expected);
});

test('promtool finds nothing wrong', async () => {
  if (spawnSync('promtool', ['--version']).error) {
    process.stdout.write('promtool is not there (Debian: apt-get install prometheus): not tried\n');
    return;
  }
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', METRICS: 'open' } });
  await ask(app);
  const { text } = await waitFor(async () => {
    const scraped = await scrape(app.address);
    return scraped.value(requests) > 0 && scraped;
  }, 'the numbers');
  const { stdout, stderr, status } = spawnSync('promtool', ['check', 'metrics'], {
    input: text,
    encoding: 'utf8',
  });
  expect({ output: stdout + stderr, status }).toEqual({ output: '', status: 0 });
});

test('no process ends because it has no free descriptor for its metrics', async () => {
  const app = await startApp({ env: { WEB_CONCURRENCY: '1', METRICS: 'open' } });
  const [worker] = app.workers();
  const limit = (pid = 0, files = 0) => execFileSync('prlimit', ['--pid', String(pid), `--nofile=${files}:`]);
  limit(worker, 1); // what is open stays
  await delay(2_500); // two heartbeats
  limit(worker, 1_000);
  limit(app.pid, 1);
  await scrape(app.address);
  expect(app.workers()).toEqual([worker]);
});
