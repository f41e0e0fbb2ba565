// The steps that put tags on images, against a real registry, with images of a few bytes.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { git as runGit } from '../support/repository.ts';
import { type Registry, startRegistry } from './registry.ts';
import { root } from './workflow.ts';

const arch = execFileSync('docker', ['version', '--format', '{{.Server.Arch}}'], { encoding: 'utf8' }).trim();
jest.setTimeout(120_000);

let registry: Registry;
let folder: string;
let count = 0;

beforeAll(() => {
  registry = startRegistry();
  folder = mkdtempSync(join(tmpdir(), 'steps-'));
  writeFileSync(
    join(folder, 'Dockerfile'),
    'FROM scratch\nCOPY Dockerfile /\nARG NUMBER\nLABEL number=$NUMBER\n',
  );
});

afterAll(() => {
  registry?.stop();
  if (folder) rmSync(folder, { recursive: true });
});

/** A repository with its own name in the registry, whose commits are tested images. */
function makeRepository() {
  const name = `steps/repository-${++count}`;
  const work = join(folder, String(count));
  const git = (...args: string[]) => runGit(work, ...args);
  execFileSync('git', ['init', '--quiet', '--initial-branch', 'main', work]);
  execFileSync('cp', ['-r', join(root, '.github'), work]);

  function step(name_: string, env: Record<string, string> = {}) {
    const { status, stdout, stderr } = spawnSync(join(work, '.github/pipeline.sh'), [name_], {
      encoding: 'utf8',
      env: { ...process.env, REGISTRY: registry.address, GITHUB_REPOSITORY: name, ARCHES: arch, ...env },
    });
    return { status, said: stdout + stderr };
  }
  return {
    git,
    step,
    /** A commit; its image is in the registry under the name that a tested image gets. */
    commit(tested = true): string {
      git('commit', '--quiet', '--allow-empty', '--message', 'change');
      const sha = git('rev-parse', 'HEAD');
      for (const image of tested ? [name, `${name}/nginx`, `${name}/redis`] : []) {
        const tag = `${registry.address}/${image}:sha-${sha}-${arch}`;
        const labels = [
          '--label',
          `org.opencontainers.image.revision=${sha}`,
          '--build-arg',
          `NUMBER=${sha}`,
        ];
        execFileSync('docker', ['build', '--quiet', '--tag', tag, ...labels, folder]);
        execFileSync('docker', ['push', '--quiet', tag]);
        execFileSync('docker', ['rmi', tag]);
      }
      return sha;
    },
    index: (sha: string) => step('index', { GITHUB_SHA: sha }),
    release: (version: string, sha: string, env = {}) =>
      step('release', { GITHUB_SHA: sha, GITHUB_REF_NAME: version, RELEASE_WAIT: '0', ...env }),
    tags: (image = name) => registry.tags(image),
  };
}

describe('edge', () => {
  test('is the newest tested commit, even when an older one is ready later', async () => {
    const repository = makeRepository();
    const [older, newer] = [repository.commit(), repository.commit()];
    expect(repository.index(newer).status).toBe(0);
    const { edge } = await repository.tags();
    const late = repository.index(older);
    expect(late.status).toBe(0);
    expect(late.said).toContain(`stays at the newer ${newer}`);
    const tags = await repository.tags();
    expect(tags.edge).toBe(edge);
    expect(tags.edge).toBe(tags[`sha-${newer}`]);
    expect(tags[`sha-${older}`]).toBeDefined();
  });

  test('moves on with the next commit, for both images', async () => {
    const repository = makeRepository();
    const first = repository.commit();
    repository.index(first);
    const second = repository.commit();
    expect(repository.index(second).status).toBe(0);
    const tags = await repository.tags();
    expect(tags.edge).toBe(tags[`sha-${second}`]);
    expect(tags.edge).not.toBe(tags[`sha-${first}`]);
  });

  test('needs each architecture', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    const { status } = repository.step('index', { GITHUB_SHA: sha, ARCHES: `${arch} riscv64` });
    expect(status).not.toBe(0);
    expect(Object.keys(await repository.tags())).toEqual([`sha-${sha}-${arch}`]);
  });
});

describe('a release', () => {
  test('gives the tested digest the names of its version', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    repository.index(sha);
    expect(repository.release('v1.2.3', sha)).toMatchObject({ status: 0 });
    const tags = await repository.tags();
    for (const tag of ['1.2.3', '1.2', '1', 'latest'])
      expect({ tag, digest: tags[tag] }).toEqual({ tag, digest: tags[`sha-${sha}`] });
    expect(repository.release('v1.2.3', sha).status).toBe(0);
    expect(await repository.tags()).toEqual(tags);
  });

  test('of an older line leaves latest with the highest version', async () => {
    const repository = makeRepository();
    const old = repository.commit();
    repository.index(old);
    const current = repository.commit();
    repository.index(current);
    for (const [tag, sha] of [
      ['v2.0.0', current],
      ['v1.9.1', old],
    ] as const) {
      repository.git('tag', tag, sha);
      expect(repository.release(tag, sha).status).toBe(0);
    }
    const tags = await repository.tags();
    expect(tags.latest).toBe(tags['2.0.0']);
    expect(tags['1']).toBe(tags['1.9.1']);
    expect(tags['1.9']).toBe(tags['1.9.1']);
    expect(tags['1.9.1']).not.toBe(tags['2.0.0']);
  });

  test('that is a preview has its own name alone', async () => {
    const repository = makeRepository();
    const sha = repository.commit();
    repository.index(sha);
    expect(repository.release('v3.0.0-rc.1', sha).status).toBe(0);
    expect(Object.keys(await repository.tags()).sort()).toEqual(
      ['3.0.0-rc.1', 'edge', `sha-${sha}`, `sha-${sha}-${arch}`].sort(),
    );
  });

  test('is never moved to another commit', async () => {
    const repository = makeRepository();
    const first = repository.commit();
    repository.index(first);
    repository.release('v1.0.0', first);
    const second = repository.commit();
    repository.index(second);
    const before = await repository.tags();
    const moved = repository.release('v1.0.0', second);
    expect(moved.status).not.toBe(0);
    expect(moved.said).toContain(`1.0.0 was released from ${first}: a version is not moved`);
    expect(await repository.tags()).toEqual(before);
  });

  test('of a commit that was never tested ends with what to look for', async () => {
    const repository = makeRepository();
    const sha = repository.commit(false);
    const { status, said } = repository.release('v1.0.0', sha);
    expect(status).not.toBe(0);
    expect(said).toContain('Is the commit on main, and its pipeline green?');
    expect(await repository.tags()).toEqual({});
  });

  test('has a version for a name', () => {
    const repository = makeRepository();
    const { status, said } = repository.release('v1.x', repository.commit(false));
    expect(status).not.toBe(0);
    expect(said).toContain('v1.x is not vX.Y.Z');
  });
});

describe('the verdict', () => {
  const verdict = (ref: string, results: Record<string, string>) => {
    const none = {
      bare: 'skipped',
      lint: 'skipped',
      devcontainer: 'skipped',
      image: 'skipped',
      publish: 'skipped',
      attest: 'skipped',
      release: 'skipped',
    };
    const RESULTS = Object.entries({ ...none, ...results })
      .map((line) => `${line.join(' ')}\n`)
      .join('');
    return spawnSync(join(root, '.github/pipeline.sh'), ['verdict'], {
      encoding: 'utf8',
      env: { ...process.env, GITHUB_REF: ref, RESULTS },
    }).status;
  };
  const tested = { bare: 'success', lint: 'success', devcontainer: 'success', image: 'success' };

  test('is green when all that the event has to run is', () => {
    expect(verdict('refs/pull/1/merge', tested)).toBe(0);
    expect(verdict('refs/heads/main', { ...tested, publish: 'success' })).toBe(0);
    expect(verdict('refs/heads/main', { ...tested, publish: 'success', attest: 'success' })).toBe(0);
    expect(verdict('refs/tags/v1.0.0', { release: 'success' })).toBe(0);
  });

  test('is red when a job was cancelled, or skipped because another failed', () => {
    expect(verdict('refs/pull/1/merge', { ...tested, bare: 'cancelled' })).toBe(1);
    expect(verdict('refs/pull/1/merge', { ...tested, lint: 'failure', image: 'skipped' })).toBe(1);
    expect(verdict('refs/pull/1/merge', { ...tested, image: 'skipped' })).toBe(1);
    expect(verdict('refs/heads/main', tested)).toBe(1);
    expect(verdict('refs/heads/main', { ...tested, publish: 'success', attest: 'failure' })).toBe(1);
    expect(verdict('refs/tags/v1.0.0', {})).toBe(1);
    expect(verdict('refs/heads/main', {})).toBe(1);
  });
});

test("GitHub's token is never shown to another registry", () => {
  const repository = makeRepository();
  repository.commit(false);
  const { status, said } = repository.step('login', { GITHUB_TOKEN: 'secret', GITHUB_ACTOR: 'someone' });
  expect({ status, said }).toEqual({ status: 0, said: '' });
});
