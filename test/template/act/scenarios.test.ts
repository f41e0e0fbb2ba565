// The workflow, whole, through act: what it lets into the registry and what it keeps out.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { docker, type Registry, startRegistry } from '../../pipeline/registry.ts';
import { Copy, oneTest, type Run, testThatExpects } from './copy.ts';

jest.setTimeout(600_000);

const arch = docker('version', '--format', '{{.Server.Arch}}');
const name = 'some-owner/some-repository'; // Some-Owner/Some-Repository, as registries spell it
const images = [name, `${name}/nginx`, `${name}/redis`];

let registry: Registry;
const copies: Copy[] = [];
const watches: ChildProcess[] = [];

beforeAll(() => {
  registry = startRegistry();
});
afterAll(() => {
  registry?.stop();
  for (const watch of watches) watch.kill();
  for (const copy of copies) copy.remove();
});

function makeCopy(origin?: string): Copy {
  const copy = new Copy(registry.address, origin);
  copies.push(copy);
  return copy;
}

/** What a run has said is the only way to see why it did not end as it should. */
async function expectRun(copy: Copy, args: string[], expected: Partial<Run>): Promise<Run> {
  const run = await copy.ci(...args);
  process.stdout.write(run.log.slice(run.log.lastIndexOf('\n\n'))); // seconds of each job
  try {
    expect(run).toMatchObject(expected);
  } catch (error) {
    process.stderr.write(run.log);
    throw error;
  }
  return run;
}

/** Every tag that anyone uses, with its digest. What lies among the candidates is nobody's. */
async function contents() {
  const tags: Record<string, Record<string, string>> = {};
  for (const repository of await registry.repositories())
    if (!repository.endsWith('/candidate')) tags[repository] = await registry.tags(repository);
  return tags;
}

/**
 * Watches the engine, which forgets its events after some hundreds: call what it returns for the images that a
 * service's containers were made from in runs of the pipeline, once each.
 */
function watchStarts(): (service: string) => string[] {
  const filters = ['--filter', 'type=container', '--filter', 'event=start'];
  const watch = spawn('docker', ['events', '--format', '{{json .Actor.Attributes}}', ...filters]);
  watches.push(watch);
  let lines = '';
  watch.stdout.on('data', (chunk) => {
    lines += chunk;
  });
  return (service) => {
    watch.kill();
    const started = lines
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, string>);
    const ours = started.filter(
      (of) => of['com.docker.compose.service'] === service && of.image?.includes('/candidate@sha256:'),
    );
    return [...new Set(ours.map((of) => of['com.docker.compose.image'] ?? ''))];
  };
}

const ends = (jobs: string[], end: string) => Object.fromEntries(jobs.map((job) => [job, end]));

describe('the true workflow, of an owner with capitals', () => {
  let copy: Copy;
  let sha: string;

  test('tags the digest that was tested, of every image, and nothing that others have put there', async () => {
    copy = makeCopy().thin();
    sha = copy.commit();
    const planted: Record<string, string> = {};
    for (const image of images) {
      for (const tag of ['edge', `sha-${sha}-${arch}`])
        planted[tag] = await registry.put(image, tag, arch, {});
    }
    const startedFrom = watchStarts();
    const jobs = ends(
      ['test', 'lint', 'devcontainer', 'push', 'image', 'index', 'publish', 'pipeline'],
      'succeeded',
    );
    const run = await expectRun(copy, ['push'], { green: true, jobs });
    expect(Object.keys(run.jobs)).toHaveLength(8);
    expect(await registry.repositories()).toEqual([...images, `${name}/candidate`].sort());
    for (const [service, repository] of [
      ['app', name],
      ['nginx', `${name}/nginx`],
      ['redis', `${name}/redis`],
    ] as const) {
      const { [`sha-${sha}-${arch}`]: foreign, ...tags } = await registry.tags(repository);
      expect(foreign).toBe(planted[`sha-${sha}-${arch}`]);
      expect(tags).toEqual({ edge: tags.edge, [`sha-${sha}`]: tags.edge });
      const { manifests } = await registry.manifest(repository, tags.edge ?? '');
      const digests = manifests?.map(({ digest }) => digest) ?? [tags.edge];
      expect(digests).toHaveLength(1);
      const { config } = await registry.manifest(repository, digests[0] ?? '');
      expect(startedFrom(service)).toEqual([config?.digest]);
    }
  });

  test('changes nothing when it runs again for the same commit', async () => {
    const before = { tags: await contents(), blobs: registry.blobs() };
    const folder = mkdtempSync(join(tmpdir(), 'again-'));
    const outputs = () => {
      const lines = readFileSync(join(folder, 'outputs'), 'utf8').split('\n').filter(Boolean);
      return Object.fromEntries(
        lines.map((line) => [line.split('=')[0]?.toUpperCase(), line.slice(line.indexOf('=') + 1)]),
      );
    };
    writeFileSync(join(folder, 'outputs'), '');
    for (const step of ['push', 'index', 'publish']) {
      execFileSync('npm', ['run', '--silent', 'pipeline', '--', step], {
        cwd: copy.folder,
        env: {
          ...process.env,
          REGISTRY: registry.address,
          GITHUB_REPOSITORY: 'Some-Owner/Some-Repository',
          GITHUB_OUTPUT: join(folder, 'outputs'),
          ARCHES: arch,
          UNSIGNED: 'true',
          FIRST: 'true',
          ...outputs(),
        },
        stdio: 'pipe',
      });
    }
    rmSync(folder, { recursive: true });
    expect({ tags: await contents(), blobs: registry.blobs() }).toEqual(before);
  });

  test.each([
    ['no', 'exit 1'],
    ['nothing that is an answer', 'kill -SEGV $$'],
  ])('releases nothing where GitHub signs and its command says %s', async (_, answer) => {
    const before = await contents();
    const bin = mkdtempSync(join(tmpdir(), 'gh-'));
    writeFileSync(join(bin, 'gh'), `#!/bin/bash\n${answer}\n`, { mode: 0o755 });
    copy.git('tag', '--force', 'v1.2.3');
    const jobs = { gate: 'succeeded', release: 'failed', pipeline: 'failed' };
    copy.env.PATH = `${bin}:${process.env.PATH}`;
    const run = await expectRun(copy, ['tag', 'v1.2.3', '--actor', 'someone'], { green: false, jobs });
    copy.env.PATH = process.env.PATH;
    rmSync(bin, { recursive: true });
    expect(run.log).toContain(`has no signature of this pipeline for ${sha}`);
    expect(await contents()).toEqual(before);
  });

  test('rebuilds nothing for a tag: the tested digest gets the names of its version', async () => {
    const blobs = registry.blobs();
    copy.git('tag', '--force', 'v1.2.3');
    const jobs = ends(['gate', 'release', 'pipeline'], 'succeeded');
    const run = await expectRun(copy, ['tag', 'v1.2.3', '--env', 'RELEASE_WAIT=0'], { green: true, jobs });
    expect(Object.keys(run.jobs)).toHaveLength(3);
    expect(registry.blobs()).toEqual(blobs);
    for (const tags of Object.values(await contents())) {
      const tested = tags[`sha-${sha}`];
      expect(tags).toMatchObject({
        '1.2.3': tested,
        '1.2': tested,
        '1': tested,
        latest: tested,
        edge: tested,
      });
    }
  });
});

describe('nothing gets a tag', () => {
  /** The push failed in these jobs, and every tag is what it was. */
  async function expectStopped(copy: Copy, failed: string[]) {
    copy.git('add', '--all');
    copy.commit();
    const before = await contents();
    const jobs = ends([...failed, 'index', 'pipeline'], 'failed');
    const run = await expectRun(copy, ['push'], { green: false, jobs });
    expect(Object.values(run.jobs).filter((end) => end === 'failed')).toHaveLength(failed.length + 2);
    expect(run.jobs).not.toHaveProperty('publish');
    expect(await contents()).toEqual(before);
    return run;
  }

  test('from the pull request of a fork, which needs no token, no setting, no registry and no owner', async () => {
    const copy = makeCopy('/srv/git/Some Repository.git').shorten();
    copy.commit();
    const head = { ref: 'main', repo: { fork: true, full_name: 'stranger/fork' } };
    copy.write(
      '.git/fork.json',
      JSON.stringify({ number: 7, pull_request: { number: 7, head, base: { ref: 'main' } } }),
    );
    const before = await contents();
    const args = ['pull_request', '--eventpath', '.git/fork.json', '--var', 'REGISTRY=localhost:1'];
    const jobs = ends(['test', 'devcontainer', 'image', 'lint', 'pipeline'], 'succeeded');
    const run = await expectRun(copy, args, { green: true, jobs });
    expect(Object.keys(run.jobs)).toHaveLength(5);
    expect(run.log).not.toMatch(/pipeline\.sh (login|push|index|publish)|localhost:1/);
    expect(await contents()).toEqual(before);
  });

  test('of an app that only the integration test sees to be broken', async () => {
    const copy = makeCopy().shorten();
    // Its user of Redis may not touch this key: the app alone is as good as ever, the stack is not.
    copy.edit('src/app/redis-store.ts', (text) => text.replace("countKey = 'visits'", "countKey = 'hits'"));
    await expectStopped(copy, ['image']);
    // What has failed lies among the candidates.
    expect(await registry.repositories()).toContain(`${name}/candidate`);
  });

  test('when a unit test fails', async () => {
    const copy = makeCopy().shorten();
    copy.write(oneTest, testThatExpects(2));
    await expectStopped(copy, ['test', 'devcontainer']);
  });

  test('when the linters find an error in a script, or an action that is not pinned', async () => {
    const copy = makeCopy().shorten();
    copy.write('broken.sh', '#!/bin/sh\ncd $1\n');
    const workflow = '.github/workflows/pipeline.yml';
    copy.edit(workflow, (text) => text.replace(/actions\/checkout@\w+ # \S+/, 'actions/checkout@v7'));
    const { log } = await expectStopped(copy, ['lint']);
    expect(log).toMatch(/broken\.sh line 2/);
    expect(log).toMatch(/error\[unpinned-uses\]/);
  });
});
