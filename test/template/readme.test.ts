import { expect, test } from '@jest/globals';
import { events, jobsOf, read, readCommands, readEventTable, readWorkflow } from '../pipeline/workflow.ts';

const workflow = readWorkflow('pipeline');

test("the README's table of events is the workflow's", () => {
  const table = readEventTable();
  expect([...table.keys()].sort()).toEqual(Object.keys(events).sort());
  for (const [event, facts] of Object.entries(events)) {
    const running = jobsOf(workflow, facts).filter((job) => job !== 'pipeline');
    expect({ event, jobs: table.get(event)?.jobs.sort() }).toEqual({ event, jobs: running.sort() });
    const writes = running.includes('publish') || running.includes('release');
    expect({ event, pushes: Number(table.get(event)?.pushed.length) > 0 }).toEqual({ event, pushes: writes });
  }
});

/** Where a job of the workflow, or a suite that a job runs, does what the README tells its reader to type. */
const runs: Record<string, [file: string, text: string]> = {
  'npm ci': ['.github/workflows/pipeline.yml', 'run: npm ci && npm test\n'],
  'npm test': ['.github/workflows/pipeline.yml', 'run: npm ci && npm test\n'],
  'npm start': ['.github/pipeline.sh', 'npm start >'],
  'npm run dev': ['test/server/development.test.ts', "startScript('dev'"],
  'npm run check': ['.github/workflows/pipeline.yml', ' npm run check\n'],
  'npm run lint': ['.github/workflows/pipeline.yml', 'run: npm run lint'],
  'npm run lint -- --install': ['.github/workflows/pipeline.yml', 'run: npm run lint -- --install\n'],
  'npm run ci': ['test/template/act/copy.ts', "'run', '--silent', 'ci'"],
  'npm run ci -- --install': ['.github/workflows/pipeline.yml', 'run: npm run ci -- --install\n'],
  'npm run test:containers': ['.github/pipeline.sh', 'npm run test:containers'],
  'npm run test:pipeline': ['.github/workflows/pipeline.yml', 'run: npm run test:pipeline\n'],
  'npm run test:faults': ['.github/workflows/pipeline.yml', 'run: npm run test:faults\n'],
  'npx devcontainer up --workspace-folder .': [
    '.github/workflows/pipeline.yml',
    'run: npx devcontainer up --workspace-folder .\n',
  ],
  'docker compose up --wait': ['test/containers/stack.test.ts', "['up', '--detach', '--wait']"],
  'docker compose down': ['test/containers/devcontainer.test.ts', "compose('down')"],
  'docker build --target single .': ['test/containers/single.test.ts', "'single')"],
  'deploy/rollout': ['test/containers/stack.test.ts', "attempt('deploy/rollout'"],
  'gh attestation verify oci://ghcr.io/OWNER/REPOSITORY:edge --repo OWNER/REPOSITORY': [
    '.github/pipeline.sh',
    'gh attestation verify "oci://',
  ],
};
// Runners have no editor, and the benchmark is the template's own: both are run by hand.
const byHand = ['npm run test:editor', 'npm run bench'];

test('every command of the README is run by a job', () => {
  const commands = readCommands();
  expect(commands.filter((command) => !byHand.includes(command)).sort()).toEqual(Object.keys(runs).sort());
  for (const [command, [file, text]] of Object.entries(runs)) {
    expect({ command, run: read(file).includes(text) }).toEqual({ command, run: true });
  }
});
