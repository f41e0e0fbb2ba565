import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { git } from '../support/repository.ts';
import {
  type Ends,
  events,
  jobsOf,
  needsOf,
  read,
  readEventTable,
  readWorkflow,
  resultsOf,
  root,
} from './workflow.ts';

const workflow = readWorkflow('pipeline');
const jobs = Object.entries(workflow.jobs);
/** And those of the workflow that it calls. */
const allJobs = [...jobs, ...Object.entries(readWorkflow('deploy').jobs)];
const text = read('.github/workflows/pipeline.yml');

test('every action of every workflow is pinned by its commit, with the version that it is', () => {
  const files = readdirSync(join(root, '.github/workflows'));
  expect(files).toContain('pipeline.yml');
  for (const file of files) {
    const lines = read(`.github/workflows/${file}`).split('\n');
    const uses = lines.filter((line) => /\buses: (?!\.\/)/.test(line)); // ./ is of this commit
    expect(uses.length).toBeGreaterThan(0);
    for (const line of uses) expect(line).toMatch(/uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
  }
});

test('each step that a workflow calls is one that the script offers', () => {
  const [, offered = ''] = /^steps='(.*)'$/m.exec(read('.github/pipeline.sh')) ?? [];
  const called = readdirSync(join(root, '.github/workflows')).flatMap((file) =>
    [...read(`.github/workflows/${file}`).matchAll(/pipeline\.sh (\w+)/g)].map(([, step]) => step),
  );
  expect(called).toContain('push');
  expect(offered.split(' ')).toEqual(expect.arrayContaining(called));
});

test('what a copy may have left out, its workflows do not ask for', () => {
  const [checkout, ...steps] = readWorkflow('cluster').jobs.cluster?.steps ?? [];
  expect(checkout?.uses).toMatch(/^actions\/checkout@/);
  expect(steps.length).toBeGreaterThan(0);
  for (const step of steps) expect(step.if).toContain("hashFiles('deploy/kubernetes/**') != ''");
  const faults = readWorkflow('long').jobs.weekly?.steps.find(({ run }) => run === 'npm test -- faults');
  expect(faults?.if).toContain("hashFiles('test/faults/**', 'test/app/faults/**') != ''");
});

test("the pipeline uses no action but the checkout, and GitHub's own attest in the job that act leaves out", () => {
  for (const [name, job] of allJobs) {
    const actions = job.steps.flatMap((step) => step.uses?.split('@')[0] ?? []);
    const allowed = name === 'attest' ? ['actions/checkout', 'actions/attest'] : ['actions/checkout'];
    expect(allowed).toEqual(expect.arrayContaining(actions));
  }
  expect(workflow.jobs.attest?.if).toContain("github.actor != 'nektos/act'");
});

test('every package and tool that is installed has a hash', () => {
  for (const path of ['package-lock.json', 'test/template/package-lock.json']) {
    if (!existsSync(join(root, path))) continue; // test/template does not travel
    const lock = JSON.parse(read(path)) as { packages: Record<string, { link?: true; integrity?: string }> };
    const without = Object.entries(lock.packages).filter(
      ([name, { link, integrity }]) => name && !link && !integrity,
    );
    expect({ path, without: without.map(([name]) => name) }).toEqual({ path, without: [] });
  }
  for (const path of ['requirements.txt', 'go-requirements.txt', 'sbom/requirements.txt']) {
    const text = read(`.github/${path}`);
    for (const line of text.replaceAll('\\\n', '').split('\n')) {
      if (line && !line.startsWith('#'))
        expect(line).toMatch(/^[\w-]+==[\d.]+( +--hash=sha256:[0-9a-f]{64})+$/);
    }
  }
  const installed = `${read('.github/tools.sh')}${read('.github/sbom/Dockerfile')}`.match(
    /^.*(pip\[@\]|pip .*install).*--requirement.*$/gm,
  );
  expect(installed).toHaveLength(3);
  for (const line of installed ?? []) expect(line).toContain('--require-hashes');
});

test('Dependabot looks into every folder that names a version', () => {
  const { updates } = parse(read('.github/dependabot.yml')) as {
    updates: { 'package-ecosystem': string; directory?: string; directories?: string[] }[];
  };
  const looked = updates.flatMap(({ 'package-ecosystem': kind, directory, directories }) =>
    (directories ?? [directory]).map((each) => `${kind} ${each}`),
  );
  const kinds: Record<string, string> = {
    'package-lock.json': 'npm',
    Dockerfile: 'docker',
    'requirements.txt': 'pip',
  };
  for (const path of git(root, 'ls-files').split('\n')) {
    const kind = kinds[basename(path)];
    if (kind) expect(looked).toContain(`${kind} /${dirname(path)}`.replace(/\/\.$/, '/'));
  }
});

test('every checkout forgets its credentials', () => {
  for (const [, job] of allJobs) {
    for (const step of job.steps) {
      if (step.uses?.startsWith('actions/checkout@'))
        expect(step.with).toHaveProperty('persist-credentials', false);
    }
  }
});

test.each(['pipeline', 'deploy', 'security', 'long'])(
  'every job of the workflow %s is bounded in time',
  (name) => {
    for (const job of Object.values(readWorkflow(name).jobs)) {
      if (job.uses) continue; // a workflow of ours, whose own jobs are
      expect(job['timeout-minutes']).toBeGreaterThan(0);
      expect(job['timeout-minutes']).toBeLessThanOrEqual(60);
    }
  },
);

test('a job may do what is written here and no more, and each write has its reason beside it', () => {
  const contents = { contents: 'read' };
  expect(workflow.permissions).toEqual({});
  const readsCandidates = { ...contents, packages: 'read' };
  const writes = { ...contents, packages: 'write' };
  const asks = { attestations: 'read', statuses: 'read', actions: 'read' };
  const deploys = { ...readsCandidates, ...asks };
  expect(Object.fromEntries(jobs.map(([name, job]) => [name, job.permissions]))).toEqual({
    test: contents,
    lint: contents,
    devcontainer: contents,
    push: writes,
    image: readsCandidates,
    index: writes,
    attest: { ...readsCandidates, 'id-token': 'write', attestations: 'write' },
    publish: { ...writes, attestations: 'read', statuses: 'write' },
    gate: readsCandidates,
    staging: deploys,
    release: { ...writes, ...asks },
    production: deploys,
    audit: contents,
    scan: { ...readsCandidates, issues: 'write' },
    pipeline: contents,
  });
  for (const line of text.split('\n'))
    if (/^ *[\w-]+: write/.test(line)) expect(line).toMatch(/: write # \S/);
});

const writing = jobs.filter(([, job]) => Object.values(job.permissions ?? {}).includes('write'));

test('where a token can write, no package of npm runs: the checkout, Docker and the steps that are written for it', () => {
  expect(writing.map(([name]) => name).sort()).toEqual([
    'attest',
    'index',
    'publish',
    'push',
    'release',
    'scan',
  ]);
  const script = read('.github/pipeline.sh');
  for (const [, job] of writing) {
    for (const { run } of job.steps) {
      if (run === undefined) continue;
      const [, step = ''] = /^\.github\/pipeline\.sh (\w+)( amd64| arm64| >\w+\.txt)?$/.exec(run) ?? [];
      const [, body = ''] = new RegExp(`^${step}\\(\\) \\{(.*?)^\\}$`, 'ms').exec(script) ?? [];
      expect({ run, body }).toEqual({ run, body: expect.stringMatching(/\S/) });
      expect(body).not.toMatch(/\b(npm|npx|node|python3?|pip|test_images)\b/);
    }
  }
});

const deploying = ['staging', 'production'];

describe('a deployment', () => {
  const { permissions, jobs } = readWorkflow('deploy');
  const { deploy } = jobs;

  test('runs where no package of npm runs: the checkout, the login and the one script', () => {
    expect(Object.keys(jobs)).toEqual(['deploy']);
    expect(deploy?.steps.map(({ uses, run }) => uses?.split('@')[0] ?? run)).toEqual([
      'actions/checkout',
      '.github/pipeline.sh guarded',
      '.github/pipeline.sh login',
      'deploy/deploy',
    ]);
    for (const file of ['deploy/deploy', 'deploy/targets/ssh', 'deploy/targets/kubernetes', 'deploy/rollout'])
      expect(read(file)).not.toMatch(/\b(npm|npx|python3?|pip)\b/);
  });

  test('may read images, signatures and how it is protected, and no more', () => {
    expect(permissions).toEqual({});
    const names = ['contents', 'packages', 'attestations', 'statuses', 'actions'];
    expect(deploy?.permissions).toEqual(Object.fromEntries(names.map((name) => [name, 'read'])));
    for (const name of deploying) expect(workflow.jobs[name]?.permissions).toEqual(deploy?.permissions);
  });

  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: GitHub's templates
  test('has its environment and waits for another one to it, and is never cancelled', () => {
    expect(deploy?.environment).toBe('${{ inputs.environment }}');
    expect(deploy?.concurrency).toEqual({
      group: 'deploy-${{ inputs.environment }}',
      'cancel-in-progress': false,
    });
  });

  test('is of what was published and released, and of nothing else', () => {
    const results = (event: string, ends: Ends) =>
      resultsOf(workflow, events[event] ?? { event_name: '', ref: '' }, ends);
    expect(results('push to main', { publish: 'failure' }).staging).toBe('skipped');
    expect(results('tag `vX.Y.Z`', { release: 'failure' }).production).toBe('skipped');
    for (const [name, need] of [
      ['staging', 'publish'],
      ['production', 'release'],
    ] as const)
      expect(workflow.jobs[name]).toMatchObject({
        uses: './.github/workflows/deploy.yml',
        with: { environment: name, images: `\${{ needs.${need}.outputs.images }}` },
      });
    expect(deploy?.steps.at(-1)?.env).toMatchObject({
      TARGET: "${{ vars[inputs.environment == 'staging' && 'STAGING' || 'PRODUCTION'] }}",
      IMAGES: '${{ inputs.images }}',
      VERSION: '${{ inputs.version }}',
    });
  });
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: GitHub's templates

  test('is skipped, and all is green, where there is no target', () => {
    for (const [event, job] of [
      ['push to main', 'staging'],
      ['tag `vX.Y.Z`', 'production'],
    ] as const) {
      const results = resultsOf(workflow, events[event] ?? { event_name: '', ref: '' }, {}, undefined, {});
      expect(results).toMatchObject({ [job]: 'skipped', pipeline: 'success' });
    }
  });

  test('never trusts a server that it does not know', () => {
    expect(read('deploy/targets/ssh').match(/StrictHostKeyChecking\S*/g)).toEqual([
      'StrictHostKeyChecking=yes',
    ]);
  });
});

test('a secret that can write is given to no other job', () => {
  const deployment = JSON.stringify(readWorkflow('deploy')).match(/secrets\.\w+/g);
  expect(deployment?.sort()).toEqual([
    'secrets.KUBECONFIG',
    'secrets.REGISTRY_READ_TOKEN',
    'secrets.SECRETS',
    'secrets.SSH_KEY',
  ]);
  for (const [name, job] of jobs) {
    const given = JSON.stringify(job).match(/secrets\.\w+/g) ?? [];
    const pushes = job.permissions?.packages === 'write';
    const allowed = pushes ? 'secrets.REGISTRY_TOKEN' : 'secrets.REGISTRY_READ_TOKEN';
    for (const secret of given) expect({ name, secret }).toEqual({ name, secret: allowed });
  }
});

test('who puts a tag that is used, or a candidate, has an environment, which can ask for a reviewer or a branch', () => {
  const environments = jobs.flatMap(([name, job]) => (job.environment ? [[name, job.environment]] : []));
  expect(Object.fromEntries(environments)).toEqual({
    push: 'candidates',
    index: 'candidates',
    publish: 'publish',
    release: 'release',
  });
});

test('publishing and releasing wait for each other and are not cancelled; nothing waits inside that for the other', () => {
  const locked = jobs.flatMap(([name, job]) => (job.concurrency?.group === 'publish' ? [name] : []));
  expect(locked).toEqual(['publish', 'release']);
  for (const name of locked) {
    expect(workflow.jobs[name]?.concurrency).toEqual({ group: 'publish', 'cancel-in-progress': false });
    expect(JSON.stringify(workflow.jobs[name]?.steps)).not.toContain('wait_for_images');
  }
});

test('a newer commit cancels the run of its branch or pull request, never one of main or of a tag', () => {
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: GitHub's templates
  const { group, 'cancel-in-progress': cancel } = workflow.concurrency;
  expect(cancel).toBe("${{ github.ref != 'refs/heads/main' && !startsWith(github.ref, 'refs/tags/') }}");
  const kept = "(github.ref == 'refs/heads/main' || startsWith(github.ref, 'refs/tags/'))";
  expect(group).toBe(`pipeline-\${{ ${kept} && github.run_id || github.ref }}`);
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: GitHub's templates
});

test('each step can be typed at a prompt: one command, nothing of the runner in it', () => {
  for (const [, job] of allJobs) {
    for (const { run } of job.steps) {
      if (run === undefined) continue;
      expect(run).toMatch(/^((npm|npx|docker|\.github\/pipeline\.sh) |deploy\/deploy$)/);
      expect(run).not.toMatch(/\$|\n|&&|;/);
    }
  }
});

test('every step says what it does', () => {
  for (const [name, job] of allJobs) {
    for (const step of job.steps) {
      if (!step.uses?.startsWith('actions/checkout@'))
        expect({ name, step: step.name ?? '' }).toMatchObject({ step: expect.stringMatching(/^[A-Z]/) });
    }
  }
});

test('no job installs or tests twice', () => {
  for (const [name, job] of jobs) {
    for (const command of ['npm ci', 'npm test']) {
      const times = job.steps.filter(({ run }) => run === command).length;
      expect({ name, command, times: Math.min(times, 2) }).not.toEqual({ name, command, times: 2 });
    }
  }
});

test('no package of npm runs where Docker is logged in, not even with a token that can only read', () => {
  for (const [name, { steps }] of jobs) {
    let beside = '';
    let loggedIn = false;
    for (const { run = '' } of steps) {
      if (loggedIn && /\b(npm|npx|test_images)\b/.test(run)) beside = run;
      if (/pipeline\.sh login/.test(run)) loggedIn = true;
      if (/pipeline\.sh logout/.test(run)) loggedIn = false;
    }
    expect({ name, beside }).toEqual({ name, beside: '' });
  }
});

test('digests go from job to job as outputs, one key a leg', () => {
  expect(Object.keys(workflow.jobs.push?.outputs ?? {})).toEqual(['amd64', 'arm64']);
  const { env } = workflow.jobs.image as unknown as { env: Record<string, string> };
  for (const image of ['app', 'nginx', 'redis'])
    expect(env[`${image.toUpperCase()}_IMAGE`]).toBe(
      `\${{ fromJSON(needs.push.outputs[matrix.arch] || '{}').${image} }}`,
    );
});

test('what is pushed takes nothing from a cache that others can write', () => {
  for (const path of [
    'docker-bake.hcl',
    'docker-compose.yml',
    '.github/pipeline.sh',
    '.github/workflows/pipeline.yml',
  ])
    expect(read(path)).not.toMatch(/cache[-_]from|cache[-_]to|type=(registry|inline|gha)/);
});

describe('what is published', () => {
  const published = (event: string, ends: Ends) => {
    const facts = events[event];
    if (!facts) throw new Error(event);
    return resultsOf(workflow, facts, ends).publish;
  };

  test.each(['test', 'lint', 'devcontainer', 'push', 'image'])(
    'is nothing where the job %s is not green',
    (job) => {
      expect(published('push to main', { [job]: 'failure' })).toBe('skipped');
      expect(published('push to main', { [job]: 'cancelled' })).toBe('skipped');
    },
  );

  test('is signed before it is tagged: nothing where that fails', () => {
    expect(published('push to main', { attest: 'failure' })).toBe('skipped');
    expect(published('push to main', {})).toBe('success');
  });

  test('needs no signature in a private repository, which has none', () => {
    const results = resultsOf(
      workflow,
      events['push to main'] ?? { event_name: '', ref: '' },
      {},
      { private: true },
    );
    expect(results).toMatchObject({ attest: 'skipped', publish: 'success' });
  });

  test('does not wait once a week for what is known of the packages', () => {
    expect(published('weekly', { audit: 'failure' })).toBe('success');
  });
});

test('the one required check waits for every other job and gets its result', () => {
  const others = jobs.map(([name]) => name).filter((name) => name !== 'pipeline');
  const last = workflow.jobs.pipeline;
  expect(last?.if).toBe('always()');
  expect(last && needsOf(last).sort()).toEqual(others.sort());
  // biome-ignore lint/suspicious/noTemplateCurlyInString: GitHub's template
  expect(last?.steps.at(-1)?.env?.RESULTS).toBe('${{ toJSON(needs) }}');
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
