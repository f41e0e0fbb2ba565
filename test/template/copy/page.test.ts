/** What pages of docs show is code: a copy that follows one step by step compiles, and passes its tests. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type Copy, makeCopy, readCommands, readFiles } from './page.ts';

const minute = 60_000;
const notes = readFiles('docs/your-service.md');
/** What the other pages take from there. */
const taken = ['src/app/primary.ts', 'src/app/redis.ts', 'src/app/settings.ts', 'test/app/visit.ts'];

/** The files of a page; `index`: the text of its `GET /`, which its visit.ts knows. */
function take(page: string, index: string): Record<string, string> {
  const files = Object.fromEntries(taken.map((path) => [path, notes[path] as string]));
  files['test/app/visit.ts'] = files['test/app/visit.ts']?.replace('Post your notes to /notes', index) ?? '';
  return { ...files, ...readFiles(page) };
}

const inApp = (...names: string[]) => names.map((name) => `src/app/${name}`);
const pages: [page: string, files: Record<string, string>, own: string[]][] = [
  [
    'docs/your-service.md',
    notes,
    [...inApp('notes.ts', 'routes.ts', 'service.ts'), 'test/app/notes.test.ts'],
  ],
  [
    'docs/prototype.md',
    take('docs/prototype.md', 'Post a CSV to /data'),
    [
      ...inApp('csv.ts', 'model.ts', 'penguins.ts', 'plots.ts', 'redis.acl', 'routes.conf', 'routes.ts'),
      ...inApp('service.ts'),
      'test/app/penguins.test.ts',
    ],
  ],
  [
    'docs/uploads.md',
    take('docs/uploads.md', 'Post a CSV to /files'),
    [
      ...inApp('count.ts', 'jobs.ts', 'redis.acl', 'routes.conf', 'routes.ts', 'service.ts'),
      'test/app/files.test.ts',
    ],
  ],
];

let copy: Copy;
beforeAll(() => {
  copy = makeCopy();
  copy.run('npm ci');
}, 10 * minute);
afterAll(() => copy.remove());

describe.each(pages)('%s', (page, files, own) => {
  beforeAll(() => {
    expect(Object.keys(files).sort()).toEqual([...taken, ...own].sort());
    copy.replaceService(files, ['src/app/static', 'test/app/backing.ts']);
    const commands = readCommands(page);
    expect(commands.length).toBeGreaterThan(0);
    for (const command of commands) copy.run(command);
  }, 10 * minute);

  test('its code is formatted and compiles', () => {
    copy.run('npx biome check src/app test/app');
    copy.run('npm run build');
    copy.run('npx tsc --project test');
  });

  test('its test passes', () => {
    copy.run('npx jest test/app');
  });

  test(
    'all that is kept passes its tests by its own commands',
    () => {
      copy.run('npm run check');
      const [, passed] = /^Tests: .*?(\d+) passed/m.exec(copy.run('npm test')) ?? [];
      expect(Number(passed)).toBeGreaterThan(80);
    },
    10 * minute,
  );
});

test('a documented judge takes no answer to HEAD for one to GET', () => {
  copy.run('FAULTS=short FAULTS_SEED=542538181 npx jest test/faults/fuzz -t "no request whatever"');
});

test('a service may import packages of ES modules alone, and its tests load them', () => {
  const model = "export { mean } from 'd3-array';\nexport { fileTypeFromBuffer } from 'file-type';\n";
  const test = `import { expect, test } from '@jest/globals';
import { fileTypeFromBuffer, mean } from '../../src/app/model.ts';
test('both', async () => {
  expect(mean([1, 3])).toBe(2);
  expect(await fileTypeFromBuffer(Buffer.from('%PDF-1.7'))).toMatchObject({ ext: 'pdf' });
});
`;
  copy.replaceService({ 'src/app/model.ts': model, 'test/app/model.test.ts': test }, []);
  copy.run('npm install d3-array file-type');
  copy.run('npx jest test/app/model');
}, 600_000);
