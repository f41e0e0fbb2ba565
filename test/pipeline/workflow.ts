import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

export const root = join(__dirname, '../..');
export const read = (path: string) => readFileSync(join(root, path), 'utf8');

export interface Step {
  uses?: string;
  run?: string;
  with?: Record<string, unknown>;
}
export interface Job {
  if?: string;
  needs?: string | string[];
  'timeout-minutes'?: number;
  permissions?: Record<string, string>;
  steps: Step[];
}
export interface Workflow {
  on: Record<string, unknown>;
  permissions: Record<string, string>;
  concurrency: { group: string; 'cancel-in-progress': string };
  jobs: Record<string, Job>;
}

export const readWorkflow = (name: string): Workflow => parse(read(`.github/workflows/${name}.yml`));

/** What GitHub says of each event that the workflow answers, by the name that docs/pipeline.md gives it. */
export const events: Record<string, { event_name: string; ref: string }> = {
  'pull request': { event_name: 'pull_request', ref: 'refs/pull/1/merge' },
  'merge group': { event_name: 'merge_group', ref: 'refs/heads/gh-readonly-queue/main/pr-1' },
  'push to main': { event_name: 'push', ref: 'refs/heads/main' },
  'tag `vX.Y.Z`': { event_name: 'push', ref: 'refs/tags/v1.2.3' },
  weekly: { event_name: 'schedule', ref: 'refs/heads/main' },
};

/** The jobs that run on an event when all goes well. */
export function jobsOf(workflow: Workflow, event: { event_name: string; ref: string }): string[] {
  const github = { ...event, actor: 'someone', event: { repository: { private: false } } };
  const holds = (condition: string) => {
    const expression = condition.replace(/^\$\{\{|\}\}$/g, '').replaceAll('==', '===');
    const evaluate = new Function('github', 'startsWith', 'always', `return ${expression}`);
    return Boolean(
      evaluate(
        github,
        (text: string, start: string) => text.startsWith(start),
        () => true,
      ),
    );
  };
  const runs = (name: string): boolean => {
    const job = workflow.jobs[name];
    if (!job) throw new Error(`no job ${name}`);
    if (job.if && !holds(job.if)) return false;
    return job.if === 'always()' || needsOf(job).every(runs);
  };
  return Object.keys(workflow.jobs).filter(runs);
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
