/** Code of a table of plots, outside of src. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, temporaryDirectory } from '../../support/processes.ts';

/** Writes it to a file from which it can be imported. Returns the file, and what the compiler says of it. */
export function compile(code: string): { file: string; complaints: string } {
  const file = join(temporaryDirectory(), 'plots.ts');
  writeFileSync(file, code.replace("'../plots.ts'", `'${join(root, 'src/plots.ts')}'`));
  const options = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--exactOptionalPropertyTypes',
    '--ignoreConfig',
  ];
  const target = ['--module', 'nodenext', '--target', 'es2023', '--allowImportingTsExtensions'];
  const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
  const tsc = join(root, 'node_modules/.bin/tsc');
  const { stdout } = spawnSync(tsc, [...options, ...target, ...types, file], { cwd: root, encoding: 'utf8' });
  return { file, complaints: stdout };
}
