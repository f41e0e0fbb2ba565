import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { readLog } from '../support/app.ts';
import { required, startBacking } from '../support/judgement.ts';
import { expectFlawless, startLightLoad } from '../support/load.ts';
import { atEnd, root, startProcess, startScript, stopAll, temporaryDirectory } from '../support/processes.ts';
import { copyRepository } from '../support/repository.ts';
import { freePort, request } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

afterEach(stopAll);

test('npm run dev: a saved file is answered by all workers, and no request fails; a mistake is shown and changes nothing', async () => {
  const copy = copyRepository('src', 'tsconfig.json', '.devcontainer/dev');
  const file = join(copy, 'src/server/http-app.ts');
  const source = readFileSync(file, 'utf8');
  const save = (greeting: string) => writeFileSync(file, source.replace("'alive\\n'", `'${greeting}'`));
  const port = await freePort();
  const backing = await startBacking();
  const env = {
    ...required,
    ...backing,
    LISTEN: String(port),
    WEB_CONCURRENCY: '2',
    NODE_OPTIONS: '--inspect-port=0',
  };
  const script = startScript('dev', { cwd: copy, env });
  const logged = (message: RegExp) => readLog(script.output()).filter(({ msg }) => message.test(msg));
  const until: typeof waitFor = (...args) =>
    waitFor(...args).catch((error) => {
      throw new Error(script.output(), { cause: error });
    });
  await until(() => logged(/^serving/)[0], 'the app to serve');
  const load = startLightLoad({ port }, 2, { pause: 20 });
  const answers = async () => {
    const list = await Promise.all(Array.from({ length: 20 }, () => request({ port }, '/livez')));
    return [...new Set(list.map(({ body }) => body))];
  };
  expect(await answers()).toEqual(['alive\n']);

  for (const greeting of ['first', 'second']) {
    save(greeting);
    await until(async () => `${await answers()}` === greeting, `"${greeting}" by all workers`);
  }

  writeFileSync(file, source.replace('export function', 'export fun ction'));
  await until(() => /http-app\.ts.*error TS\d+/.test(script.output()), 'the mistake to be shown');
  expect(await answers()).toEqual(['second']);

  save('third');
  await until(async () => `${await answers()}` === 'third', 'the correction to be answered');
  await expectFlawless({ port }, load);
});

test('a workspace that the dev container sees only a part of says what to do', async () => {
  const { services } = parse(readFileSync('.devcontainer/docker-compose.yml', 'utf8'), { logLevel: 'error' });
  const [shell, ...args] = services.app.command.map((word: string) => word.replaceAll('$$', '$'));
  const link = startProcess(shell, args, { env: { ...process.env, WORKSPACE: '/missing' }, group: true });
  atEnd(() => process.kill(-link.pid));
  await waitFor(() => link.output().includes('Open no link to it'), 'the sentence');

  const worktree = temporaryDirectory();
  writeFileSync(join(worktree, '.git'), 'gitdir: /missing\n');
  const install = startProcess(join(root, '.devcontainer/install'), [], { cwd: worktree });
  await install.exited; // in vain: there is nothing to install
  expect(install.output()).toMatch(/This is a worktree.*npm run doctor/);
});
