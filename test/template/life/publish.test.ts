/** The door `devcontainer templates apply`: what is published comes out as it was, wherever it is applied. */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Registry, startProxy, startRegistry } from '../../pipeline/registry.ts';
import { readWorkflow, resultsOf } from '../../pipeline/workflow.ts';
import { atEnd, stopAll, temporaryDirectory } from '../../support/processes.ts';
import { cloneWorkingTree, git } from '../../support/repository.ts';
import { expectSame, filesIn, travelling } from './travel.ts';

const owner = 'Some-Owner/Some-Repository';
const collection = 'some-owner/some-repository/templates'; // as registries spell it
const repository = `${collection}/service`;
const { template } = JSON.parse(readFileSync('package.json', 'utf8'));
const [major, minor] = template.version.split('.');
/** What may be left out, as docs/copying.md says. */
const optional: string[] = JSON.parse(
  /--omit-paths '([^']+)'/.exec(readFileSync('docs/copying.md', 'utf8'))?.[1] ?? '',
);
let registry: Registry;
let clone: string;
let reference: string;

beforeAll(async () => {
  registry = startRegistry();
  clone = join(temporaryDirectory(), 'clone');
  cloneWorkingTree(clone);
  reference = await push();
}, 120_000);
afterAll(async () => {
  registry.stop();
  await stopAll();
});

/** What it prints. Not synchronous, since a server of this process may have to answer it. */
async function publish(step: string, args: string[] = [], { to = registry.address, env = {} } = {}) {
  const { stdout } = await promisify(execFile)('test/template/publish.sh', [step, to, owner, ...args], {
    cwd: clone,
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
  return stdout;
}

const push = async (options?: Parameters<typeof publish>[2]) =>
  (await publish('push', [], options)).trim().split('\n').at(-1) as string;

function apply(directory: string, omitted: string[] = []): void {
  const args = ['devcontainer', 'templates', 'apply', '--workspace-folder', directory];
  args.push('--template-id', reference, '--omit-paths', JSON.stringify(omitted));
  execFileSync('npx', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** A new repository in a folder with an awkward name, with the template applied. */
function applyToRepository(omitted: string[] = []): string {
  const directory = join(temporaryDirectory(), '.Mein Dienst für Éva');
  mkdirSync(directory);
  apply(directory, omitted);
  git(directory, 'init', '--quiet', '--initial-branch', 'main');
  git(directory, 'add', '--all');
  return directory;
}

function npm(directory: string, ...args: string[]): string {
  return execFileSync('npm', args, { cwd: directory, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

const quickly = ['--prefer-offline', '--no-audit', '--no-fund'];

/** The links of all pages that lead to no file. */
function findDeadLinks(directory: string): string[] {
  const pages = readdirSync(join(directory, 'docs')).map((page) => join(directory, 'docs', page));
  return [...pages, join(directory, 'CONTRIBUTING.md')].flatMap((page) => {
    const links = [...readFileSync(page, 'utf8').matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)];
    return links
      .map(([, link]) => join(dirname(page), link as string))
      .filter((path) => path.startsWith(directory)) // others are GitHub's pages of the repository
      .filter((path) => !existsSync(path))
      .map((path) => `${page}: ${path}`);
  });
}

describe('what is published', () => {
  test('has no tag before it gets one, and is the same for the same commit', async () => {
    expect(await push()).toBe(reference);
    expect(await registry.tags(repository)).toEqual({});
  });

  test('gets the tags of its version, and leaves the package of the images alone', async () => {
    await publish('tag', [reference]);
    const digest = reference.split('@')[1];
    const tags = [template.version, `${major}.${minor}`, major, 'latest'];
    expect(await registry.tags(repository)).toEqual(Object.fromEntries(tags.map((tag) => [tag, digest])));
    expect((await registry.repositories()).sort()).toEqual([collection, repository]);
    expect(await publish('tag', [reference])).toMatch('is published already');
  });

  test('moves a tag to a higher version only', async () => {
    const list = await manifestOf(collection, 'latest');
    const expected = await registry.tags(repository);
    for (const [version, ...moved] of [['0.0.9', '0.0'], ['0.0.10', '0.0'], ['0.0.8']] as [string][]) {
      const manifest = JSON.parse(readFileSync('package.json', 'utf8'));
      manifest.template.version = version;
      writeFileSync(join(clone, 'package.json'), JSON.stringify(manifest));
      git(clone, 'commit', '--quiet', '--all', '--message', `Release ${version}`);
      const pushed = await push();
      git(clone, 'reset', '--quiet', '--hard', 'HEAD~1');
      await publish('tag', [pushed]);
      for (const tag of [version, ...moved]) expected[tag] = pushed.split('@')[1] as string;
      expect(await registry.tags(repository)).toEqual(expected);
    }
    expect(await manifestOf(collection, 'latest')).toEqual(list);
  });

  test('names for editors what may be left out: what the docs say', async () => {
    const { annotations } = await manifestOf(repository, 'latest');
    const { optionalPaths } = JSON.parse(annotations?.['dev.containers.metadata'] ?? '{}');
    expect(optionalPaths).toEqual(optional);
  });

  test('is what `devcontainer templates publish` would make of these files', async () => {
    const { layers } = await manifestOf(repository, 'latest');
    const layer = await fetch(`http://${registry.address}/v2/${repository}/blobs/${layers[0]?.digest}`);
    const payload = temporaryDirectory();
    execFileSync('tar', ['--extract', '--directory', payload], {
      input: Buffer.from(await layer.arrayBuffer()),
    });
    const args = ['publish', payload, '--registry', registry.address, '--namespace', 'another/one'];
    execFileSync('npx', ['devcontainer', 'templates', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
    for (const suffix of ['', '/service'])
      expect(shapeOf(await manifestOf(`${collection}${suffix}`, 'latest'))).toEqual(
        shapeOf(await manifestOf(`another/one${suffix}`, 'latest')),
      );
    const [ours, theirs] = await Promise.all([collection, 'another/one'].map(listOf));
    expect(ours).toEqual(theirs);
  });

  test('under a version stays: another commit is refused, and moves no tag', async () => {
    const before = await registry.tags(repository);
    writeFileSync(join(clone, 'SECURITY.md'), 'changed\n');
    git(clone, 'commit', '--quiet', '--all', '--message', 'a change');
    const other = await push();
    expect(other).not.toBe(reference);
    await expect(publish('tag', [other])).rejects.toThrow('a version is not moved');
    expect(await registry.tags(repository)).toEqual(before);
    git(clone, 'reset', '--quiet', '--hard', 'HEAD~1');
  });

  test('goes to a registry that gives tokens, for which it asks with the login of Docker', async () => {
    const { address, asked } = await startTokenServer(registry.address);
    const folder = temporaryDirectory();
    const logIn = (password: string) =>
      writeFileSync(
        join(folder, 'config.json'),
        JSON.stringify({ auths: { [address]: { auth: btoa(`someone:${password}`) } } }),
      );
    const options = { to: address, env: { DOCKER_CONFIG: folder } };
    logIn('secret');
    expect(await push(options)).toBe(reference.replace(registry.address, address));
    expect(asked).toContain(`repository:${repository}:pull,push`);
    logIn('wrong');
    await expect(push(options)).rejects.toThrow(`${address} refused`);
    writeFileSync(join(folder, 'config.json'), '{}');
    await expect(push(options)).rejects.toThrow(`log in first: docker login ${address}`);
  });

  test('is written by jobs that run no package of npm, and nowhere but in the template’s own repository', () => {
    const { jobs, permissions } = readWorkflow('template');
    expect(permissions).toEqual({});
    const writing = Object.entries(jobs).filter(([, job]) => job.permissions?.packages === 'write');
    expect(writing.map(([name, { environment }]) => [name, environment])).toEqual([
      ['push', 'template'],
      ['tag', 'release'],
    ]);
    const commands = writing.flatMap(([, { steps }]) => steps.map(({ run }) => run ?? ''));
    const script = readFileSync('test/template/publish.sh', 'utf8').replace(/^ *#.*$/gm, '');
    for (const text of [...commands, script]) expect(text).not.toMatch(/\b(npm|npx|node|python3?|pip)\b/);
    const tag = { event_name: 'push', ref: 'refs/tags/v1.2.3', repository: 'owner/copy' };
    for (const [vars, result] of [
      [{}, 'skipped'],
      [{ TEMPLATE: 'owner/template' }, 'skipped'],
      [{ TEMPLATE: 'owner/copy' }, 'success'],
    ] as const)
      expect(resultsOf(readWorkflow('template'), tag, {}, undefined, vars)).toEqual({
        push: result,
        try: result,
        tag: result,
      });
  });

  test('is of the version that its tag says', async () => {
    const pushAt = (tag: string) => push({ env: { GITHUB_REF: `refs/tags/${tag}` } });
    expect(await pushAt(`v${template.version}`)).toBe(reference);
    await expect(pushAt('v9.9.9')).rejects.toThrow('and the tag says refs/tags/v9.9.9');
  });

  test('has no binary file, which would be broken', async () => {
    writeFileSync(join(clone, 'docs/plan.png'), Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0, 1]));
    git(clone, 'add', '--all');
    git(clone, 'commit', '--quiet', '--message', 'a picture');
    await expect(push()).rejects.toThrow(/a binary file would be broken:\n.*docs\/plan\.png/);
    git(clone, 'reset', '--quiet', '--hard', 'HEAD~1');
  });
});

describe('applied', () => {
  test('to a new folder with an awkward name, every file is there as it was', () => {
    const directory = applyToRepository();
    const travels = travelling(clone).filter((path) => !['README.md', 'docs/picture.png'].includes(path));
    const there = filesIn(directory).filter((path) => !path.startsWith('.git/'));
    expect(there).toEqual([...travels, 'docs/README.md'].sort());
    expectSame(clone, directory, travels);
    expect(findDeadLinks(directory)).toEqual([]);
  });

  test('to a repository, it leaves its README alone, and git shows what else was there', () => {
    const directory = temporaryDirectory();
    writeFileSync(join(directory, 'README.md'), 'mine\n');
    writeFileSync(join(directory, 'package.json'), '{ "name": "mine" }\n');
    writeFileSync(join(directory, 'main.ts'), '// mine\n');
    git(directory, 'init', '--quiet', '--initial-branch', 'main');
    git(directory, 'add', '--all');
    git(directory, 'commit', '--quiet', '--message', 'mine');
    apply(directory);
    expect(git(directory, 'diff', '--name-only')).toBe('package.json');
  });

  test.each([[[]], ...optional.map((path) => [[path]])])(
    'without %j it passes the checks, and no link is dead',
    (omitted: string[]) => {
      const directory = applyToRepository(omitted);
      expect(findDeadLinks(directory)).toEqual([]);
      npm(directory, 'ci', ...quickly);
      npm(directory, 'run', 'check');
      npm(directory, 'test', '--', 'kubernetes', 'names');
    },
    240_000,
  );

  test('without all that may be left out, it passes its checks and tests', () => {
    const directory = applyToRepository(optional);
    for (const path of optional)
      expect([path, existsSync(join(directory, dirname(path)))]).toEqual([path, false]);
    expect(findDeadLinks(directory)).toEqual([]);
    npm(directory, 'ci', ...quickly);
    npm(directory, 'run', 'check');
    npm(directory, 'test', '--', 'kubernetes', 'names'); // what reads of that; copy.test.ts runs all of another copy
    npm(directory, 'test', '--', 'pipeline', 'static');
  }, 600_000);
});

interface Manifest {
  layers: { digest: string; size: number }[];
  annotations?: Record<string, string>;
}

async function manifestOf(of: string, tag: string): Promise<Manifest> {
  return (await registry.manifest(of, tag)) as object as Manifest;
}

/** All that a manifest says but the bytes of its layer; the order of the files is of no matter. */
function shapeOf({ layers, annotations, ...rest }: Manifest): object {
  const { files, ...metadata } = JSON.parse(annotations?.['dev.containers.metadata'] ?? '{"files":[]}');
  return {
    ...rest,
    layers: layers.map(({ digest, size, ...layer }) => layer),
    metadata: { ...metadata, files: files.sort() },
  };
}

/** The templates of a collection, as lists of templates read them. */
async function listOf(of: string): Promise<object> {
  const { layers } = await manifestOf(of, 'latest');
  const answer = await fetch(`http://${registry.address}/v2/${of}/blobs/${layers[0]?.digest}`);
  const { templates } = (await answer.json()) as { templates: { files: string[] }[] };
  return templates.map(({ files, ...metadata }) => ({ ...metadata, files: files.sort() }));
}

/** Stands before a registry and lets nobody in but with a token, which it gives to one user, as ghcr.io does. */
async function startTokenServer(to: string): Promise<{ address: string; asked: string[] }> {
  const asked: string[] = [];
  const { address, stop } = await startProxy(to, ({ url = '', headers }, answer) => {
    const here = `http://${headers.host}`;
    if (url.startsWith('/token?')) {
      const may = headers.authorization === `Basic ${btoa('someone:secret')}`;
      asked.push(new URL(url, here).searchParams.get('scope') ?? '');
      answer.writeHead(may ? 200 : 403).end(JSON.stringify({ token: 'given' }));
      return true;
    }
    if (headers.authorization === 'Bearer given') return false;
    const challenge = `Bearer realm="${here}/token",service="some registry"`;
    answer.writeHead(401, { 'www-authenticate': challenge }).end();
    return true;
  });
  atEnd(stop);
  return { address, asked };
}
