// The steps that put tags on images, against a real registry, with images of a few bytes.
import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { git as runGit } from '../support/repository.ts';
import { docker, type FailingProxy, type Registry, startProxy, startRegistry } from './registry.ts';
import { root } from './workflow.ts';

const arch = docker('version', '--format', '{{.Server.Arch}}');
const images = ['app', 'nginx', 'redis'];
jest.setTimeout(120_000);

let registry: Registry;
let proxy: FailingProxy;
let folder: string;
let count = 0;

beforeAll(async () => {
  registry = startRegistry();
  proxy = await startProxy(registry.address);
  folder = mkdtempSync(join(tmpdir(), 'steps-'));
  // Stand-ins for GitHub's own command: each writes down what it is asked.
  for (const [answer, code] of [
    ['yes', 'exit 0'],
    ['no', 'echo "Error: verifying with issuer \\"sigstore.dev\\"" >&2; exit 1'],
    ['broken', 'kill -SEGV $$'],
    // A private repository's statuses: what is written there is read again.
    [
      'private',
      `case "$*" in
        *--silent*) printf '%s@%s\\n' "\${7#context=}" "\${9#description=}" >>"$GH_ASKED.statuses" ;;
        *) cat "$GH_ASKED.statuses" ;;
      esac`,
    ],
    ['protected', 'echo 1'],
    ['unprotected', 'echo 0'],
  ] as const) {
    const bin = join(folder, answer);
    mkdirSync(bin);
    writeFileSync(join(bin, 'gh'), `#!/bin/bash\necho "$*" >>"$GH_ASKED"\n${code}\n`, { mode: 0o755 });
  }
});

afterAll(() => {
  proxy?.stop();
  registry?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

interface Step {
  status: number;
  said: string;
  /** What it has handed on to other jobs. */
  outputs: Record<string, string>;
}

/** A step of this script with this environment, as a job runs it. */
function runStep(script: string, step: string, env: NodeJS.ProcessEnv, args: string[] = []): Promise<Step> {
  const file = join(mkdtempSync(join(folder, 'outputs-')), 'outputs');
  writeFileSync(file, '');
  return new Promise((resolve) => {
    execFile(
      script,
      [step, ...args],
      { env: { ...process.env, ...env, GITHUB_OUTPUT: file } },
      (error, stdout, stderr) => {
        const status = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
        const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
        const outputs = lines.map((line) => [line.split('=', 1)[0], line.slice(line.indexOf('=') + 1)]);
        resolve({ status, said: stdout + stderr, outputs: Object.fromEntries(outputs) });
      },
    );
  });
}

/** What a job of this repository has in its environment. */
const ofJob = (repository: string) => ({
  REGISTRY: proxy.address,
  GITHUB_REPOSITORY: repository,
  ARCHES: arch,
  UNSIGNED: 'true',
  RELEASE_WAIT: '0',
});

/** A repository with its own name in the registry, whose commits are tested candidates. */
function makeRepository() {
  const name = `steps/repository-${++count}`;
  const work = join(folder, String(count));
  const asked = join(folder, `asked-${count}`);
  const git = (...args: string[]) => runGit(work, ...args);
  execFileSync('git', ['init', '--quiet', '--initial-branch', 'main', work]);
  execFileSync('cp', ['-r', join(root, '.github'), work]);
  writeFileSync(asked, '');

  const job = { ...ofJob(name), GH_ASKED: asked };
  const step = (name_: string, env: NodeJS.ProcessEnv = {}, ...args: string[]) =>
    runStep(join(work, '.github/pipeline.sh'), name_, { ...job, ...env }, args);
  const names = { app: name, nginx: `${name}/nginx`, redis: `${name}/redis` };
  const repository = {
    git,
    step,
    name,
    names,
    /** What `gh` was asked by a stand-in, a line each time. */
    asked: () => readFileSync(asked, 'utf8').split('\n').filter(Boolean),
    /** The environment of a job whose `gh` is a stand-in. */
    gh: (answer: 'yes' | 'no' | 'broken' | 'private' | 'protected' | 'unprotected') => ({
      UNSIGNED: answer === 'private' ? 'private' : 'false',
      PATH: `${join(folder, answer)}:${process.env.PATH}`,
    }),
    commit(): string {
      git('commit', '--quiet', '--allow-empty', '--message', 'change');
      return git('rev-parse', 'HEAD');
    },
    /** Puts an image there; its digest. */
    build: (repository_: string, tag: string, sha: string, number = sha) =>
      registry.put(repository_, tag, arch, { 'org.opencontainers.image.revision': sha, number }),
    /** Candidates as `push` hands them on: a number makes another build of the same commit. */
    async candidates(sha: string, number?: string): Promise<string> {
      const digest = await repository.build(`${name}/candidate`, 'x', sha, number);
      const reference = `${proxy.address}/${name}/candidate@${digest}`;
      return JSON.stringify(Object.fromEntries(images.map((image) => [image, reference])));
    },
    /** The index of tested candidates, as it is handed on. */
    async index(sha: string, number?: string): Promise<string> {
      const { status, said, outputs } = await step('index', {
        GITHUB_SHA: sha,
        PUSHED: pushed({ [arch]: await repository.candidates(sha, number) }),
      });
      if (status !== 0) throw new Error(said);
      return outputs.images ?? '';
    },
    publishOnly: (sha: string, IMAGES: string, env: NodeJS.ProcessEnv = {}) =>
      step('publish', { GITHUB_SHA: sha, IMAGES, ...env }),
    async publish(sha: string, env: NodeJS.ProcessEnv = {}, number?: string) {
      return repository.publishOnly(sha, await repository.index(sha, number), env);
    },
    release: (version: string, sha: string, env: NodeJS.ProcessEnv = {}) =>
      step('release', { GITHUB_SHA: sha, GITHUB_REF_NAME: version, ...env }),
    tags: (image = name) => registry.tags(image),
    /** The tags of all images that anyone uses. */
    async all() {
      const all: Record<string, Record<string, string>> = {};
      for (const each of Object.values(names)) all[each] = await registry.tags(each);
      return all;
    },
  };
  return repository;
}

/** What GitHub makes of the outputs of all legs of `push`. */
const pushed = (outputs: Record<string, string>) => JSON.stringify(outputs);

const digestIn = (IMAGES: string, image = 'app') =>
  (JSON.parse(IMAGES) as Record<string, string>)[image]?.split('@')[1];

const order = ['redis', 'app', 'nginx'] as const;
const verified = (repository: ReturnType<typeof makeRepository>, env: NodeJS.ProcessEnv) =>
  repository.step('verified', env, ...order);

describe('the index', () => {
  test('hands on the digest of what the candidates are, even if its tag is moved', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const IMAGES = await repository.index(sha);
    const tags = await registry.tags(`${repository.name}/candidate`);
    expect(digestIn(IMAGES)).toBe(tags[`app-${sha}`]);
    const { manifests } = await registry.manifest(`${repository.name}/candidate`, digestIn(IMAGES) ?? '');
    expect(manifests?.map(({ digest }) => digest)).toEqual([tags.x]);
    expect(await repository.tags()).toEqual({});
  });

  test('needs each architecture, and each image of it', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const candidates = await repository.candidates(sha);
    const { redis, ...some } = JSON.parse(candidates);
    for (const env of [
      { ARCHES: `${arch} riscv64`, PUSHED: pushed({ [arch]: candidates, riscv64: '' }) },
      { PUSHED: pushed({ [arch]: JSON.stringify(some) }) },
      { PUSHED: pushed({}) },
    ]) {
      const { status, outputs } = await repository.step('index', { GITHUB_SHA: sha, ...env });
      expect({ status, outputs }).toEqual({ status: 1, outputs: {} });
    }
    expect(redis).toBeDefined();
  });

  test('is listed with what it lists for the signature', async () => {
    const repository = makeRepository();
    const IMAGES = await repository.index(repository.commit());
    const { said } = await repository.step('subjects', { IMAGES, IMAGE: 'nginx' });
    const lines = said.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    for (const line of lines)
      expect(line).toMatch(new RegExp(`^[0-9a-f]{64}  ${proxy.address}/${repository.name}/nginx$`));
    expect(`sha256:${lines[0]?.split(' ')[0]}`).toBe(digestIn(IMAGES, 'nginx'));
  });
});

describe('what is published', () => {
  test('has the tags sha-COMMIT and edge, of all three images', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const IMAGES = await repository.index(sha);
    expect(await repository.publishOnly(sha, IMAGES, { FIRST: 'true' })).toMatchObject({ status: 0 });
    const digest = digestIn(IMAGES);
    for (const tags of Object.values(await repository.all())) {
      expect(tags).toEqual({ edge: digest, [`sha-${sha}`]: digest });
    }
  });

  test('is verified by workflow, branch, commit and kind of runner', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    expect(await repository.publish(sha, repository.gh('yes'))).toMatchObject({ status: 0 });
    expect(repository.asked()).toHaveLength(3);
    for (const line of repository.asked()) {
      expect(line).toMatch(/^attestation verify oci:\/\/\S+@sha256:\w{64} /);
      for (const flag of [
        `--repo ${repository.name}`,
        `--signer-workflow ${repository.name}/.github/workflows/pipeline.yml`,
        '--source-ref refs/heads/main',
        `--source-digest ${sha}`,
        '--deny-self-hosted-runners',
      ])
        expect(line).toContain(flag);
    }
  });

  test.each(['no', 'broken'] as const)('is nothing where `gh` says %s', async (answer) => {
    const repository = makeRepository();
    const sha = repository.commit();
    const { status, said } = await repository.publish(sha, repository.gh(answer));
    expect(status).toBe(1);
    expect(said).toContain(`has no signature of this pipeline for ${sha}`);
    expect(await repository.tags()).toEqual({});
  });

  test('is verified unless it is said that there are no signatures', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    for (const UNSIGNED of ['', 'false', 'yes']) {
      expect(await repository.publish(sha, { ...repository.gh('no'), UNSIGNED })).toMatchObject({
        status: 1,
      });
    }
  });

  test('is recorded in a private repository, and nothing else is released or deployed there', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const gh = repository.gh('private');
    expect(await repository.publish(sha, gh)).toMatchObject({ status: 0 });
    expect(await repository.release('v1.0.0', sha, gh)).toMatchObject({ status: 0 });
    expect(await verified(repository, { VERSION: '1.0.0', ...gh })).toMatchObject({ status: 0 });
    // Somebody who may write packages, but not the repository, moves a tag.
    await repository.build(repository.names.nginx, '1.0.0', sha, 'planted');
    const refused = { status: 1, said: expect.stringContaining('is not what the pipeline has tested for') };
    expect(await verified(repository, { VERSION: '1.0.0', ...gh })).toMatchObject(refused);
    await repository.build(repository.names.app, `sha-${sha}`, sha, 'planted');
    expect(await repository.release('v1.0.1', sha, gh)).toMatchObject(refused);
  });

  test('is nothing if the tag of the commit is there already', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.build(repository.name, `sha-${sha}`, sha, 'planted');
    const before = await repository.all();
    const { status, said } = await repository.publish(sha, { FIRST: 'true' });
    expect(status).toBe(1);
    expect(said).toContain(`sha-${sha} is there already, and this run has not built it`);
    expect(await repository.all()).toEqual(before);
  });

  test('leaves sha-COMMIT as it was where the commit is built again; edge and a name of its own get the new one', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.publish(sha, { FIRST: 'true' });
    const before = await repository.tags();
    const run = { GITHUB_RUN_ID: '77', GITHUB_RUN_ATTEMPT: '2' };
    expect(await repository.publish(sha, run, 'again')).toMatchObject({ status: 0 });
    const after = await repository.tags();
    expect(after[`sha-${sha}`]).toBe(before[`sha-${sha}`]);
    expect(after.edge).not.toBe(before.edge);
    expect(after[`sha-${sha}-77-2`]).toBe(after.edge);
  });

  test('is what it was where the same digests are published again', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const IMAGES = await repository.index(sha);
    await repository.publishOnly(sha, IMAGES, { FIRST: 'true' });
    const before = await repository.all();
    expect(await repository.publishOnly(sha, IMAGES, { FIRST: 'true' })).toMatchObject({ status: 0 });
    expect(await repository.all()).toEqual(before);
  });
});

describe('edge', () => {
  test('is the newest tested commit, even when an older one is ready later', async () => {
    const repository = makeRepository();
    const [older, newer] = [repository.commit(), repository.commit()];
    expect(await repository.publish(newer)).toMatchObject({ status: 0 });
    const { edge } = await repository.tags();
    const late = await repository.publish(older);
    expect(late.status).toBe(0);
    expect(late.said).toContain(`stays at the newer ${newer}`);
    const tags = await repository.tags();
    expect(tags.edge).toBe(edge);
    expect(tags.edge).toBe(tags[`sha-${newer}`]);
    expect(tags[`sha-${older}`]).toBeDefined();
  });

  test('moves on with the next commit, for all images', async () => {
    const repository = makeRepository();
    await repository.publish(repository.commit());
    const second = repository.commit();
    expect(await repository.publish(second)).toMatchObject({ status: 0 });
    for (const tags of Object.values(await repository.all())) expect(tags.edge).toBe(tags[`sha-${second}`]);
  });

  test('stays where the registry does not say what it is', async () => {
    const repository = makeRepository();
    const [older, newer] = [repository.commit(), repository.commit()];
    await repository.publish(newer);
    const before = await repository.all();
    const IMAGES = await repository.index(older);
    proxy.fail(new RegExp(`${repository.name}/manifests/edge`));
    expect(await repository.publishOnly(older, IMAGES)).toMatchObject({ status: 1 });
    expect(await repository.all()).toEqual(before);
  });
});

describe('a release', () => {
  test('gives the tested digest the names of its version', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.publish(sha);
    expect(
      await repository.step('wait_for_images', { GITHUB_SHA: sha, GITHUB_REF_NAME: 'v1.2.3' }),
    ).toMatchObject({
      status: 0,
    });
    expect(await repository.release('v1.2.3', sha)).toMatchObject({ status: 0 });
    const all = await repository.all();
    for (const tags of Object.values(all)) {
      for (const tag of ['1.2.3', '1.2', '1', 'latest'])
        expect({ tag, digest: tags[tag] }).toEqual({ tag, digest: tags[`sha-${sha}`] });
    }
    expect(await repository.release('v1.2.3', sha)).toMatchObject({ status: 0 });
    expect(await repository.all()).toEqual(all);
  });

  test('of an older line leaves latest with the highest version', async () => {
    const repository = makeRepository();
    const [old, current] = [repository.commit(), repository.commit()];
    for (const sha of [old, current]) await repository.publish(sha);
    for (const [tag, sha] of [
      ['v2.0.0', current],
      ['v1.9.1', old],
    ] as const) {
      repository.git('tag', tag, sha);
      expect(await repository.release(tag, sha)).toMatchObject({ status: 0 });
    }
    const tags = await repository.tags();
    expect(tags.latest).toBe(tags['2.0.0']);
    expect(tags['1']).toBe(tags['1.9.1']);
    expect(tags['1.9']).toBe(tags['1.9.1']);
    expect(tags['1.9.1']).not.toBe(tags['2.0.0']);
  });

  test('is not held back by tags of Git that were never released', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.publish(sha);
    for (const stray of ['v99.0.0', 'v1.0.1.rc1', 'v1.0.9', 'v1.1', 'v1.2.0-rc.1', 'v1.0.x'])
      repository.git('tag', stray);
    expect(await repository.release('v1.0.1', sha)).toMatchObject({ status: 0 });
    expect(await repository.tags()).toMatchObject(
      Object.fromEntries(['1.0.1', '1.0', '1', 'latest'].map((tag) => [tag, expect.any(String)])),
    );
  });

  test('that is a preview has its own name alone', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.publish(sha);
    expect(await repository.release('v3.0.0-rc.1', sha)).toMatchObject({ status: 0 });
    expect(Object.keys(await repository.tags()).sort()).toEqual(['3.0.0-rc.1', 'edge', `sha-${sha}`].sort());
  });

  test('is never moved to another commit, whichever image has it', async () => {
    for (const image of images as (keyof ReturnType<typeof makeRepository>['names'])[]) {
      const repository = makeRepository();
      const [first, second] = [repository.commit(), repository.commit()];
      await repository.publish(first);
      await repository.publish(second);
      const name = `${registry.address}/${repository.names[image]}`;
      docker('buildx', 'imagetools', 'create', '--tag', `${name}:1.0.0`, `${name}:sha-${first}`);
      const before = await repository.all();
      const moved = await repository.release('v1.0.0', second);
      expect(moved.status).toBe(1);
      expect(moved.said).toContain(`1.0.0 was released from ${first}: a version is not moved`);
      expect(await repository.all()).toEqual(before);
    }
  });

  test('moves nothing where the registry fails, whatever it fails at', async () => {
    const repository = makeRepository();
    const [first, second] = [repository.commit(), repository.commit()];
    await repository.publish(first);
    await repository.publish(second);
    expect(await repository.release('v1.0.0', first)).toMatchObject({ status: 0 });
    repository.git('tag', 'v1.0.1'); // asked for: is it released?
    const before = await repository.all();
    for (const { version, path } of [
      { version: 'v1.0.0', path: `${repository.name}/manifests/1.0.0` },
      { version: 'v1.1.0', path: `${repository.name}/redis/manifests/1.1.0` },
      { version: 'v1.1.0', path: `${repository.name}/nginx/manifests/sha-` },
      { version: 'v0.9.0', path: `${repository.name}/manifests/1.0.1` },
    ]) {
      proxy.fail(new RegExp(path));
      const { status, said } = await repository.release(version, second);
      expect({ path, status }).toEqual({ path, status: 1 });
      expect(said).toContain('503');
      expect(await repository.all()).toEqual(before);
    }
  });

  test('is verified before it is tagged, what was released before too', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.publish(sha);
    const before = await repository.all();
    for (const answer of ['no', 'broken'] as const) {
      expect(await repository.release('v1.0.0', sha, repository.gh(answer))).toMatchObject({ status: 1 });
      expect(await repository.all()).toEqual(before);
    }
    expect(await repository.release('v1.0.0', sha, repository.gh('yes'))).toMatchObject({ status: 0 });
    expect(await repository.release('v1.0.0', sha, repository.gh('no'))).toMatchObject({ status: 1 });
    const digest = before[repository.name]?.[`sha-${sha}`];
    expect(repository.asked().filter((line) => line.includes(`${repository.name}@${digest} `))).toHaveLength(
      4,
    );
  });

  test('of a commit that was never tested ends with what to look for', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const { status, said } = await repository.step('wait_for_images', {
      GITHUB_SHA: sha,
      GITHUB_REF_NAME: 'v1.0.0',
    });
    expect(status).toBe(1);
    expect(said).toContain('Is the commit on main, and its pipeline green?');
    expect(await repository.release('v1.0.0', sha)).toMatchObject({ status: 1 });
    expect(await repository.tags()).toEqual({});
  });

  test('has a version for a name', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    for (const { status, said } of [
      await repository.release('v1.x', sha),
      await repository.step('wait_for_images', { GITHUB_SHA: sha, GITHUB_REF_NAME: 'v1.x' }),
    ]) {
      expect(status).toBe(1);
      expect(said).toContain('v1.x is not vX.Y.Z');
    }
  });
});

describe('what is deployed', () => {
  test('is what was published or released, under the names that everyone uses', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const published = await repository.publish(sha);
    const released = await repository.release('v1.2.3', sha);
    const tags = await repository.tags();
    for (const { outputs } of [published, released]) {
      const images = JSON.parse(outputs.images ?? '');
      for (const image of order)
        expect(images[image]).toBe(`${proxy.address}/${repository.names[image]}@${tags['1.2.3']}`);
    }
    const images = JSON.parse(published.outputs.images ?? '');
    for (const env of [{ IMAGES: published.outputs.images }, { VERSION: '1.2.3' }]) {
      const { said } = await verified(repository, env);
      const line = said.split('\n').find((each) => each.startsWith('{'));
      expect(JSON.parse(line ?? '')).toEqual({ commit: sha, project: repository.name.split('/')[1], images });
    }
  });

  test('is verified against the commit that it says it is of', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    await repository.publish(sha);
    expect(await verified(repository, { VERSION: 'edge', ...repository.gh('yes') })).toMatchObject({
      status: 0,
    });
    expect(repository.asked()).toHaveLength(3);
    for (const line of repository.asked()) expect(line).toContain(`--source-digest ${sha}`);
    for (const answer of ['no', 'broken'] as const)
      expect(await verified(repository, { VERSION: 'edge', ...repository.gh(answer) })).toMatchObject({
        status: 1,
      });
  });

  test('is of one commit, and there', async () => {
    const repository = makeRepository();
    const [one, other] = [repository.commit(), repository.commit()];
    await repository.publish(one);
    await repository.build(repository.names.nginx, '1.0.0', other);
    for (const image of ['app', 'redis'] as const)
      await repository.build(repository.names[image], '1.0.0', one);
    const mixed = await verified(repository, { VERSION: '1.0.0' });
    expect(mixed).toMatchObject({ status: 1, said: expect.stringContaining(`is not of the commit ${one}`) });
    const missing = await verified(repository, { VERSION: '9.9.9' });
    expect(missing).toMatchObject({ status: 1, said: expect.stringContaining('no image') });
  });
});

describe('the verdict', () => {
  const jobs = `test lint devcontainer push image index attest publish staging
    gate release production audit scan`.split(/\s+/);
  const judge = (GITHUB_REF: string, results: Record<string, string>, env: NodeJS.ProcessEnv = {}) => {
    const needs = jobs.map((job) => [job, { outputs: {}, result: results[job] ?? 'skipped' }]);
    const RESULTS = JSON.stringify(Object.fromEntries(needs), null, 2);
    return runStep(join(root, '.github/pipeline.sh'), 'verdict', { GITHUB_REF, RESULTS, ...env });
  };
  const verdict = async (ref: string, results: Record<string, string>) => (await judge(ref, results)).status;
  const all = (...names: string[]) => Object.fromEntries(names.map((job) => [job, 'success']));
  const tested = all('test', 'lint', 'devcontainer', 'image');
  const published = { ...tested, ...all('push', 'index', 'publish') };

  test('is green when all that the event has to run is', async () => {
    expect(await verdict('refs/pull/1/merge', tested)).toBe(0);
    expect(await verdict('refs/heads/branch', tested)).toBe(0);
    expect(await verdict('refs/heads/main', published)).toBe(0);
    expect(await verdict('refs/heads/main', { ...published, attest: 'success' })).toBe(0);
    expect(await verdict('refs/heads/main', { ...published, ...all('audit', 'scan') })).toBe(0);
    expect(await verdict('refs/tags/v1.0.0', all('gate', 'release'))).toBe(0);
  });

  test('is red when a job has failed, was cancelled, or is skipped although the event needs it', async () => {
    for (const [ref, results] of [
      ['refs/pull/1/merge', { ...tested, test: 'cancelled' }],
      ['refs/pull/1/merge', { ...tested, lint: 'failure', image: 'skipped' }],
      ['refs/pull/1/merge', { ...tested, image: 'skipped' }],
      ['refs/heads/main', tested],
      ['refs/heads/main', { ...published, attest: 'failure' }],
      ['refs/heads/main', { ...published, ...all('audit'), scan: 'failure' }],
      ['refs/tags/v1.0.0', all('gate')],
      ['refs/heads/main', {}],
    ] as const)
      expect({ ref, results, code: await verdict(ref, results) }).toEqual({ ref, results, code: 1 });
    expect(
      (await judge('refs/heads/main', { ...published, attest: 'failure', scan: 'cancelled' })).said,
    ).toContain('not green: attest, scan\n');
  });

  test('says how to deploy where there is no target, and is red where a deployment failed', async () => {
    for (const [ref, results, job] of [
      ['refs/heads/main', published, 'staging'],
      ['refs/tags/v1.0.0', all('gate', 'release'), 'production'],
    ] as const) {
      const line = `${job}: there is no target. To deploy, set the repository's variable ${job.toUpperCase()}`;
      expect((await judge(ref, results)).said).toContain(line);
      const deployed = await judge(ref, { ...results, [job]: 'success' });
      expect(deployed).toMatchObject({ status: 0, said: expect.not.stringContaining('no target') });
      expect(await verdict(ref, { ...results, [job]: 'failure' })).toBe(1);
    }
  });

  test('says on a default branch that is not main that nothing was published', async () => {
    const line = 'Nothing was published, because only `main` is. The default branch is `master`';
    const env = { DEFAULT_BRANCH: 'master' };
    expect(await judge('refs/heads/master', tested, env)).toMatchObject({
      status: 0,
      said: expect.stringContaining(line),
    });
    for (const ref of ['refs/heads/branch', 'refs/pull/1/merge'])
      expect((await judge(ref, tested, env)).said).not.toContain('Nothing was published');
    expect((await judge('refs/heads/main', published, { DEFAULT_BRANCH: 'main' })).said).not.toContain(
      'Nothing',
    );
  });
});

test.each(['docker.io', 'index.docker.io', 'registry.hub.docker.com'])(
  'a registry whose names have two parts only is refused at the start: %s',
  async (REGISTRY) => {
    const { status, said } = await makeRepository().step('login', { REGISTRY, GITHUB_SHA: 'none' });
    expect({ status, said }).toEqual({
      status: 1,
      said: expect.stringContaining('takes names of two parts'),
    });
  },
);

test("GitHub's token is never shown to another registry", async () => {
  const repository = makeRepository();
  repository.commit();
  const { status, said } = await repository.step('login', {
    GITHUB_TOKEN: 'secret',
    GITHUB_ACTOR: 'someone',
  });
  expect({ status, said }).toEqual({ status: 0, said: '' });
});

describe('an environment', () => {
  const guarded = (env: NodeJS.ProcessEnv) =>
    makeRepository().step('guarded', { GITHUB_SHA: 'none', ENVIRONMENT: 'production', ...env });
  const gh = (answer: Parameters<ReturnType<typeof makeRepository>['gh']>[0]) => makeRepository().gh(answer);

  test('that has rules may be used', async () => {
    expect(await guarded(gh('protected'))).toMatchObject({ status: 0, said: '' });
  });

  test('without rules is refused, with where they are set', async () => {
    const { status, said } = await guarded(gh('unprotected'));
    expect([status, said]).toEqual([1, expect.stringContaining('Settings → Environments → production')]);
    expect(await guarded(gh('no'))).toMatchObject({ status: 1 });
  });

  test('is not asked about where its owner accepts that', async () => {
    for (const env of [{ ...gh('unprotected'), UNPROTECTED: 'true' }, { UNSIGNED: 'true' }])
      expect(await guarded(env)).toMatchObject({
        status: 0,
        said: expect.stringContaining('is not checked'),
      });
  });
});
