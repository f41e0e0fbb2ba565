/** The door `npx giget`: what travels comes out of a tarball as it was. A server on this machine stands for GitHub's. */
import { execFile, execFileSync } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { root, stopAll, temporaryDirectory } from '../../support/processes.ts';
import { cloneWorkingTree } from '../../support/repository.ts';
import { expectSame, filesIn, travelling } from './travel.ts';

let clone: string;
let github: Server;
const asked: (string | undefined)[] = [];

beforeAll(async () => {
  clone = join(temporaryDirectory(), 'clone');
  cloneWorkingTree(clone);
  // GitHub makes its tarballs by `git archive`, too, and puts all into one folder.
  const archive = ['archive', '--format=tar.gz', '--prefix=some-owner-some-repository-1a2b3c4/', 'HEAD'];
  const tarball = execFileSync('git', archive, { cwd: clone, maxBuffer: 2 ** 28 });
  github = createServer(({ url }, answer) => {
    asked.push(url);
    answer.end(tarball);
  });
  await new Promise<void>((resolve) => github.listen(0, '127.0.0.1', resolve));
});
afterAll(async () => {
  github.close();
  await stopAll();
});

test('every file that travels is there as it was, and nothing else', async () => {
  const directory = join(temporaryDirectory(), 'my-service');
  const giget = join(root, 'test/template/node_modules/.bin/giget');
  await promisify(execFile)(giget, ['gh:some-owner/some-repository', directory], {
    env: {
      ...process.env,
      GIGET_GITHUB_URL: `http://127.0.0.1:${(github.address() as AddressInfo).port}`,
      XDG_CACHE_HOME: temporaryDirectory(), // where it keeps tarballs
    },
  });
  expect(asked).toContain('/repos/some-owner/some-repository/tarball/main');
  const travels = travelling(clone);
  expect(filesIn(directory)).toEqual(travels);
  expectSame(clone, directory, travels);
}, 60_000);
