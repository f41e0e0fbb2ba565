// The workflow, whole, through act: what it lets into the registry and what it keeps out.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { adoptProject, attempt, removeAll } from '../../containers/engine.ts';
import { type Server, startServer } from '../../deploy/server.ts';
import { docker, type Registry, startRegistry } from '../../pipeline/registry.ts';
import { freePort, request } from '../../support/requests.ts';
import { Copy, oneTest, type Run, testThatExpects } from './copy.ts';

jest.setTimeout(900_000);

const arch = docker('version', '--format', '{{.Server.Arch}}');
const name = 'some-owner/some-repository'; // Some-Owner/Some-Repository, as registries spell it
const images = [name, `${name}/nginx`, `${name}/redis`];

let registry: Registry;
let server: Server;
const copies: Copy[] = [];
const watches: ChildProcess[] = [];

beforeAll(async () => {
  registry = startRegistry();
  server = await startServer();
});
afterAll(async () => {
  await removeAll();
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
  try {
    expect(run).toMatchObject(expected);
  } catch (error) {
    process.stderr.write(run.log);
    throw error;
  }
  return run;
}

/** Every tag that is used, with its digest: not those of the candidates. */
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

/** An environment of GitHub's that has this machine as its server. */
interface Target {
  project: string;
  port: number;
  /** Of `npm run ci`. */
  args: string[];
}

async function createTarget(variable: 'STAGING' | 'PRODUCTION'): Promise<Target> {
  const port = await freePort();
  const project = `${variable.toLowerCase()}-${Math.random().toString(36).slice(2, 8)}`;
  adoptProject(project);
  const variables = {
    [variable]: server.target,
    PROJECT: project,
    SETTINGS: `PORT=${port}`,
    KNOWN_HOSTS: server.knownHosts,
  };
  const args = Object.entries(variables).flatMap(([name, value]) => ['--var', `${name}=${value}`]);
  return { project, port, args: [...args, '--secret', `SSH_KEY=${server.key}`] };
}

/** These digests run there, and it answers. */
async function expectDeployed({ project, port }: Target, tag: string): Promise<void> {
  expect((await request({ port }, '/livez')).status).toBe(200);
  const ids = docker('ps', '--quiet', '--filter', `label=com.docker.compose.project=${project}`).split('\n');
  const running = docker('inspect', '--format', '{{.Config.Image}}', ...ids).split('\n');
  const tagged = await Promise.all(images.map(async (image) => (await registry.tags(image))[tag]));
  expect(running.sort()).toEqual(
    images.map((image, i) => `${registry.address}/${image}@${tagged[i]}`).sort(),
  );
}

const ends = (jobs: string[], end: string) => Object.fromEntries(jobs.map((job) => [job, end]));

describe('the true workflow, of an owner with capitals', () => {
  let copy: Copy;
  let sha: string;
  let production: Target;

  test('tags and deploys the digest that was tested, of every image, and nothing that others have put there', async () => {
    copy = makeCopy().thin();
    copy.edit('package.json', (text) => text.replace(/("template": .*?"version": ")[^"]*/s, '$11.2.3'));
    sha = copy.commit();
    const planted: Record<string, string> = {};
    for (const image of images) {
      for (const tag of ['edge', `sha-${sha}-${arch}`])
        planted[tag] = await registry.put(image, tag, arch, {});
    }
    const startedFrom = watchStarts();
    const jobs = ends(
      ['test', 'lint', 'devcontainer', 'push', 'image', 'index', 'publish', 'staging', 'pipeline'],
      'succeeded',
    );
    const staging = await createTarget('STAGING');
    const run = await expectRun(copy, ['push', ...staging.args], { green: true, jobs });
    expect(Object.keys(run.jobs)).toHaveLength(9);
    await expectDeployed(staging, 'edge');
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
      const { images: IMAGES, ...pushed } = Object.fromEntries(
        lines.map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]),
      );
      return { IMAGES, PUSHED: JSON.stringify(pushed) };
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
    const run = await expectRun(copy, ['tag', 'v1.2.3', '--actor', 'someone', '--var', 'UNPROTECTED=true'], {
      green: false,
      jobs,
    });
    copy.env.PATH = process.env.PATH;
    rmSync(bin, { recursive: true });
    expect(run.log).toContain(`has no signature of this pipeline for ${sha}`);
    expect(await contents()).toEqual(before);
  });

  test('rebuilds nothing for a tag: the tested digest gets the names of its version', async () => {
    const blobs = registry.blobs();
    production = await createTarget('PRODUCTION');
    copy.git('tag', '--force', 'v1.2.3');
    const jobs = ends(['gate', 'release', 'production', 'pipeline'], 'succeeded');
    const args = ['tag', 'v1.2.3', '--env', 'RELEASE_WAIT=0', ...production.args];
    const run = await expectRun(copy, args, { green: true, jobs });
    expect(Object.keys(run.jobs)).toHaveLength(4);
    expect(registry.blobs()).toEqual(blobs);
    await expectDeployed(production, '1.2.3');
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

  test('publishes the template under that version, once it was applied and tested', async () => {
    const workflow = ['--workflows', '.github/workflows/template.yml'];
    const nothing = await expectRun(copy, ['tag', 'v1.2.3', ...workflow], { green: true, jobs: {} });
    expect(nothing.log).not.toContain('publish.sh');
    const jobs = ends(['push', 'try', 'tag'], 'succeeded');
    const variable = ['--var', 'TEMPLATE=Some-Owner/Some-Repository'];
    await expectRun(copy, ['tag', 'v1.2.3', ...workflow, ...variable], { green: true, jobs });
    const tags = await registry.tags(`${name}/templates/service`);
    expect(Object.keys(tags).sort()).toEqual(['1', '1.2', '1.2.3', 'latest']);
    expect(new Set(Object.values(tags)).size).toBe(1);
    expect(Object.keys(await registry.tags(name))).toContain('latest'); // still the app's image
  });

  test('deploys by hand the version that is named', async () => {
    const found = execFileSync('.github/tools.sh', ['--find'], { encoding: 'utf8' }).trim();
    const inputs = ['environment=production', `version=sha-${sha}`].flatMap((input) => ['--input', input]);
    const { code, output } = await attempt(
      process.env.ACT_BINARY || join(found, 'act'),
      [
        ...[
          'workflow_dispatch',
          '--workflows',
          '.github/workflows/deploy.yml',
          ...inputs,
          ...production.args,
        ],
        ...['--var', `REGISTRY=${registry.address}`, '--env', `GITHUB_REPOSITORY=${name}`],
      ],
      { cwd: copy.folder },
    );
    expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining(`${sha}: deployed`) });
    await expectDeployed(production, `sha-${sha}`);
  });
});

describe('nothing gets a tag', () => {
  /** The push failed in these jobs, and every tag is what it was. */
  async function expectStopped(copy: Copy, failed: string[]) {
    copy.commit();
    const before = await contents();
    const jobs = ends([...failed, 'pipeline'], 'failed');
    const run = await expectRun(copy, ['push'], { green: false, jobs });
    expect(Object.values(run.jobs).filter((end) => end === 'failed')).toHaveLength(failed.length + 1);
    for (const job of ['index', 'publish']) expect(run.jobs).not.toHaveProperty(job);
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
