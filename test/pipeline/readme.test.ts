import { expect, test } from '@jest/globals';
import { events, jobsOf, readEventTable, readWorkflow } from './workflow.ts';

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
