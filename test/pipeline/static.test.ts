import { expect, test } from '@jest/globals';
import { events, jobsOf, needsOf, read, readEventTable, readWorkflow } from './workflow.ts';

const workflow = readWorkflow('pipeline');
const jobs = Object.entries(workflow.jobs);
const text = read('.github/workflows/pipeline.yml');

test('every action of every workflow is pinned by its commit, with the version that it is', () => {
  for (const name of ['pipeline', 'security']) {
    const lines = read(`.github/workflows/${name}.yml`).split('\n');
    const uses = lines.filter((line) => /\buses:/.test(line));
    expect(uses.length).toBeGreaterThan(0);
    for (const line of uses) expect(line).toMatch(/uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  }
});

test("the pipeline uses no action but the checkout, and GitHub's own attest in the job that act leaves out", () => {
  for (const [name, job] of jobs) {
    const actions = job.steps.flatMap((step) => step.uses?.split('@')[0] ?? []);
    const allowed = name === 'attest' ? ['actions/checkout', 'actions/attest'] : ['actions/checkout'];
    expect(allowed).toEqual(expect.arrayContaining(actions));
  }
  expect(workflow.jobs.attest?.if).toContain("github.actor != 'nektos/act'");
});

test('every checkout forgets its credentials', () => {
  for (const [, job] of jobs) {
    for (const step of job.steps) {
      if (step.uses?.startsWith('actions/checkout@'))
        expect(step.with).toHaveProperty('persist-credentials', false);
    }
  }
});

test.each(['pipeline', 'security'])('every job of the workflow %s is bounded in time', (name) => {
  for (const job of Object.values(readWorkflow(name).jobs)) {
    expect(job['timeout-minutes']).toBeGreaterThan(0);
    expect(job['timeout-minutes']).toBeLessThanOrEqual(60);
  }
});

test('a job may do what is written here and no more, and each write has its reason beside it', () => {
  const contents = { contents: 'read' };
  expect(workflow.permissions).toEqual({});
  expect(Object.fromEntries(jobs.map(([name, job]) => [name, job.permissions]))).toEqual({
    bare: contents,
    lint: contents,
    devcontainer: contents,
    image: { ...contents, packages: 'write' },
    publish: { ...contents, packages: 'write' },
    attest: { ...contents, packages: 'read', 'id-token': 'write', attestations: 'write' },
    release: { ...contents, packages: 'write' },
    pipeline: contents,
  });
  for (const line of text.split('\n'))
    if (/^ *[\w-]+: write/.test(line)) expect(line).toMatch(/: write # \S/);
});

test('what a pull request may not have is asked for on main and tags alone: the token, the push', () => {
  for (const [, job] of jobs) {
    for (const step of job.steps as { run?: string; if?: string }[]) {
      if (!/pipeline -- (login|push)$/.test(step.run ?? '')) continue;
      if (job.if) continue; // the whole job is of main or of a tag
      expect(step.if).toMatch(/^github\.ref == 'refs\/heads\/main'/);
    }
  }
});

test('only the run of a pull request is ever cancelled by a newer one, and no other waits', () => {
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: GitHub's templates
  const { group, 'cancel-in-progress': cancel } = workflow.concurrency;
  expect(cancel).toBe("${{ github.event_name == 'pull_request' }}");
  expect(group).toBe("pipeline-${{ github.event_name == 'pull_request' && github.ref || github.run_id }}");
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: GitHub's templates
});

test('each step can be typed at a prompt: an npm script or command, nothing of the runner in it', () => {
  for (const [, job] of jobs) {
    for (const { run } of job.steps) {
      if (run === undefined) continue;
      expect(run).toMatch(/^(npm|npx) /);
      expect(run).not.toMatch(/\$|\n/);
    }
  }
});

test('the one required check waits for every other job and hears its result', () => {
  const others = jobs.map(([name]) => name).filter((name) => name !== 'pipeline');
  const last = workflow.jobs.pipeline;
  expect(last?.if).toBe('always()');
  expect(last && needsOf(last).sort()).toEqual(others.sort());
  const results = [...text.matchAll(/^ +(\w+) \$\{\{ needs\.(\w+)\.result \}\}$/gm)];
  expect(results.map(([, name]) => name).sort()).toEqual(others);
  for (const [, name, job] of results) expect(job).toBe(name);
});

test('the workflow answers the events of the table and no other', () => {
  expect(Object.keys(workflow.on).sort()).toEqual(['merge_group', 'pull_request', 'push', 'schedule']);
});

test('the table of events in docs/pipeline.md is what the workflow does', () => {
  const table = readEventTable();
  expect([...table.keys()].sort()).toEqual(Object.keys(events).sort());
  for (const [event, facts] of Object.entries(events)) {
    const running = jobsOf(workflow, facts).filter((job) => job !== 'pipeline');
    expect({ event, jobs: table.get(event)?.jobs.sort() }).toEqual({ event, jobs: running.sort() });
    const writes = running.includes('publish') || running.includes('release');
    expect({ event, pushes: Number(table.get(event)?.pushed.length) > 0 }).toEqual({ event, pushes: writes });
  }
});
