/**
 * After the tests: which lines of src they ran, in jest's own process and in those of the app. What a process
 * has run it writes at its exit, so that nothing is known of one that was killed.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { mergeProcessCovs, type ProcessCov } from '@bcoe/v8-coverage';
import { type CoverageMapData, createCoverageMap } from 'istanbul-lib-coverage';
import { createContext } from 'istanbul-lib-report';
import { create } from 'istanbul-reports';
import v8ToIstanbul from 'v8-to-istanbul';

export default async function printCoverage(): Promise<void> {
  const inProcess = resolve('coverage/coverage-final.json'); // written by jest
  const ofProcesses = resolve(process.env.COVERAGE_OF_PROCESSES ?? 'coverage/processes'); // by Node, for processes.ts
  if (!existsSync(inProcess) || !existsSync(ofProcesses)) return;
  const map = createCoverageMap(JSON.parse(readFileSync(inProcess, 'utf8')) as CoverageMapData);

  const compiled = pathToFileURL(resolve('dist')).href;
  const { result } = mergeProcessCovs(
    readdirSync(ofProcesses).flatMap((file) => {
      const coverage = parseWhole(readFileSync(join(ofProcesses, file), 'utf8'));
      return coverage ? [{ result: coverage.result.filter(({ url }) => url.startsWith(compiled)) }] : [];
    }),
  );
  for (const { url, functions } of result) {
    const converter = v8ToIstanbul(fileURLToPath(url));
    await converter.load();
    converter.applyCoverage(functions);
    map.merge(converter.toIstanbul() as CoverageMapData);
  }
  rmSync(ofProcesses, { recursive: true });
  create('text', { skipFull: false }).execute(createContext({ dir: 'coverage', coverageMap: map }));
}

/** A process that was killed while it wrote its report leaves a part of it, which is worth nothing. */
function parseWhole(text: string): ProcessCov | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
