import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

export const root = join(__dirname, '../..');
export const read = (path: string) => readFileSync(join(root, path), 'utf8');

export interface Step {
  name?: string;
  if?: string;
  uses?: string;
  run?: string;
  env?: Record<string, string>;
  with?: Record<string, unknown>;
}
export interface Job {
  if?: string;
  needs?: string | string[];
  'timeout-minutes'?: number;
  environment?: string;
  concurrency?: { group: string; 'cancel-in-progress': boolean };
  outputs?: Record<string, string>;
  permissions?: Record<string, string>;
  /** Another workflow, which it calls in place of steps. */
  uses?: string;
  with?: Record<string, string>;
  steps: Step[];
}
export interface Workflow {
  on: Record<string, unknown>;
  permissions: Record<string, string>;
  concurrency: { group: string; 'cancel-in-progress': string };
  jobs: Record<string, Job>;
}

export function readWorkflow(name: string): Workflow {
  const workflow: Workflow = parse(read(`.github/workflows/${name}.yml`));
  for (const job of Object.values(workflow.jobs)) job.steps ??= [];
  return workflow;
}

/** What GitHub says of each event that the workflow answers, by the name that docs/pipeline.md gives it. */
export const events: Record<string, { event_name: string; ref: string }> = {
  'pull request': { event_name: 'pull_request', ref: 'refs/pull/1/merge' },
  'merge group': { event_name: 'merge_group', ref: 'refs/heads/gh-readonly-queue/main/pr-1' },
  'push to another branch': { event_name: 'push', ref: 'refs/heads/branch' },
  'push to main': { event_name: 'push', ref: 'refs/heads/main' },
  'tag `vX.Y.Z`': { event_name: 'push', ref: 'refs/tags/v1.2.3' },
  weekly: { event_name: 'schedule', ref: 'refs/heads/main' },
};

/** How a job ends by itself, where it is not skipped: all well unless it is said here. */
export type Ends = Record<string, 'failure' | 'cancelled'>;

/** How each job ends on an event, by the rules of GitHub for `if` and `needs`. */
export function resultsOf(
  workflow: Workflow,
  event: { event_name: string; ref: string },
  ends: Ends = {},
  repository = { private: false },
  vars: Record<string, string> = { STAGING: 'ssh://user@host', PRODUCTION: 'ssh://user@host' },
): Record<string, string> {
  const results: Record<string, string> = {};
  const ancestorsOf = (name: string): string[] =>
    needsOf(jobNamed(workflow, name)).flatMap((need) => [need, ...ancestorsOf(need)]);
  function resultOf(name: string): string {
    results[name] ??= runs(name) ? (ends[name] ?? 'success') : 'skipped';
    return results[name];
  }
  function runs(name: string): boolean {
    const job = jobNamed(workflow, name);
    const needs = Object.fromEntries(needsOf(job).map((need) => [need, { result: resultOf(need) }]));
    const condition = (job.if ?? 'true').replace(/^\$\{\{|\}\}$/g, '');
    // Without a function of status in it, a condition holds only if all went well before.
    const asksForStatus = /\b(always|cancelled)\(/.test(condition);
    if (!asksForStatus && needsOf(job).some((need) => resultOf(need) !== 'success')) return false;
    const scope = {
      needs,
      github: { ...event, actor: 'someone', event: { repository } },
      vars: { STAGING: '', PRODUCTION: '', ...vars }, // what is not set is empty
      startsWith: (text: string, start: string) => text.startsWith(start),
      always: () => true,
      cancelled: () => ancestorsOf(name).map(resultOf).includes('cancelled'),
    };
    return Boolean(new Function(...Object.keys(scope), `return ${condition}`)(...Object.values(scope)));
  }
  for (const name of Object.keys(workflow.jobs)) resultOf(name);
  return results;
}

/** The jobs that run on an event when all goes well. */
export const jobsOf = (workflow: Workflow, event: { event_name: string; ref: string }): string[] =>
  Object.entries(resultsOf(workflow, event)).flatMap(([name, result]) =>
    result === 'success' ? [name] : [],
  );

function jobNamed(workflow: Workflow, name: string): Job {
  const job = workflow.jobs[name];
  if (!job) throw new Error(`no job ${name}`);
  return job;
}

export const needsOf = (job: Job) => (job.needs === undefined ? [] : [job.needs].flat());

/** The table of events in docs/pipeline.md: what each runs and what it puts into the registry. */
export function readEventTable(): Map<string, { jobs: string[]; pushed: string[] }> {
  const [, rows = ''] = /^\| event \|.*\n\| ---.*\n((?:\|.*\n)+)/m.exec(read('docs/pipeline.md')) ?? [];
  const table = new Map<string, { jobs: string[]; pushed: string[] }>();
  for (const row of rows.trimEnd().split('\n')) {
    const [names = '', jobs = '', pushed = ''] = row
      .split('|')
      .slice(1)
      .map((cell) => cell.trim());
    for (const name of names.split(', ')) {
      table.set(name, {
        jobs: jobs.split(/, | → /),
        pushed: pushed === 'nothing' ? [] : pushed.split(', ').map((tag) => tag.replaceAll('`', '')),
      });
    }
  }
  return table;
}
