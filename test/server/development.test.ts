import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import {
  copyRepository,
  freePort,
  readLog,
  request,
  startLoad,
  startScript,
  stopAll,
  waitFor,
} from '../processes.ts';

afterEach(stopAll);

test('npm run dev: a saved file is answered by all workers, and no request fails; a mistake is shown and changes nothing', async () => {
  const copy = copyRepository('src', 'tsconfig.json');
  const file = join(copy, 'src/answer.ts');
  const source = readFileSync(file, 'utf8');
  const save = (greeting: string) =>
    writeFileSync(file, source.replace("`I've been seen ", `\`${greeting} `));
  const port = await freePort();
  const env = { LISTEN: String(port), WEB_CONCURRENCY: '2', NODE_OPTIONS: '--inspect-port=0' };
  const script = startScript('dev', { cwd: copy, env });
  const logged = (message: RegExp) => readLog(script.output()).filter(({ msg }) => message.test(msg));
  const until: typeof waitFor = (...args) =>
    waitFor(...args).catch((error) => {
      throw new Error(script.output(), { cause: error });
    });
  await until(() => logged(/^serving/)[0], 'the app to serve');
  const load = startLoad({ port }, 2, { pause: 20 });
  const answers = async () => {
    const list = await Promise.all(Array.from({ length: 20 }, () => request({ port })));
    return [...new Set(list.map(({ body }) => body.replace(/\d+ times\.\n/, 'N')))];
  };

  for (const greeting of ['First', 'Second']) {
    save(greeting);
    await until(async () => `${await answers()}` === `${greeting} N`, `"${greeting}" by all workers`);
  }

  writeFileSync(file, source.replace('export function', 'export fun ction'));
  await until(() => /answer\.ts.*error TS\d+/.test(script.output()), 'the mistake to be shown');
  expect(await answers()).toEqual(['Second N']);

  save('Third');
  await until(async () => `${await answers()}` === 'Third N', 'the correction to be answered');
  const { numbers, statuses, errors } = await load.stop();
  expect({ errors, statuses }).toEqual({ errors: [], statuses: { 200: numbers.length } });
});
