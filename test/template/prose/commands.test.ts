import { readdirSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { read } from '../../pipeline/workflow.ts';

const pages = [
  ...['README.md', 'CONTRIBUTING.md', 'test/template/README.md'],
  ...readdirSync('docs')
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** What a page asks its reader to type, as it stands there. */
function commandsOf(page: string): string[] {
  const quoted = read(page).matchAll(
    /`(?:[A-Z_]+=\S+ )?((?:npm|npx|docker|gh|deploy\/(?:deploy|rollout))(?: [^`]*)?)`/g,
  );
  return [...quoted].flatMap(([, command]) => (command ?? '').split(' && '));
}

const workflow = '.github/workflows/pipeline.yml';
const long = '.github/workflows/long.yml';
const steps = '.github/pipeline.sh';
const everything = '.ci/run';

/** Where a job of the workflow, or something that one runs, does what a page asks its reader to type. */
const runs: Record<string, [file: string, text: string]> = {
  'npm ci': [workflow, 'run: npm ci\n'],
  'npm test': [workflow, 'run: npm test\n'],
  'npm test -- env': [workflow, 'run: npm test\n'], // only the name of a file is the reader's
  'npm start': ['test/server/start.test.ts', "startScript('start'"],
  'npm run dev': ['test/server/development.test.ts', "startScript('dev'"],
  'npm run format': [everything, ' npm run format\n'],
  'npm run check': [workflow, ' npm run check\n'],
  'npm run lint': [workflow, 'run: npm run lint\n'],
  'npm run tools': [workflow, 'run: npm run tools\n'],
  'npm run ci': ['test/template/act/copy.ts', "'run', '--silent', 'ci'"],
  'npm run ci -- tag v1.2.3': ['test/template/act/scenarios.test.ts', "['tag', 'v1.2.3'"],
  'npm run ci -- pull_request': ['test/template/act/scenarios.test.ts', "['pull_request'"],
  'npm run ci -- push --var STAGING=ssh://deploy@HOST': [
    'test/template/act/scenarios.test.ts',
    "['push', ...staging.args]",
  ],
  'npm run doctor': ['test/template/life/doctor.test.ts', "'run', '--silent', 'doctor'"],
  'npm run upgrade': ['test/template/life/upgrade.test.ts', "'run', '--silent', 'upgrade'"],
  'npm run upgrade v1.2.0': ['test/template/life/upgrade.test.ts', "upgrade(['v"],
  'npm test -- containers images': [steps, 'npm test -- containers images'],
  'npm test -- containers': [steps, 'npm test -- containers'],
  'npm test -- browser': [everything, ' npm test -- browser\n'],
  'npm test -- pipeline': [long, 'run: npm test -- pipeline\n'],
  'npm test -- cluster': ['.github/workflows/cluster.yml', 'run: npm test -- cluster\n'],
  'npm test -- faults': [long, 'run: npm test -- faults\n'],
  'npx devcontainer up --workspace-folder .': [workflow, 'run: npx devcontainer up --workspace-folder . '],
  'npx giget gh:OWNER/REPOSITORY FOLDER': [
    'test/template/life/tarball.test.ts',
    "giget, ['gh:some-owner/some-repository', directory]",
  ],
  'npx devcontainer templates apply --workspace-folder . --template-id REGISTRY/OWNER/REPOSITORY/templates/service':
    ['test/template/life/publish.test.ts', "['devcontainer', 'templates', 'apply', '--workspace-folder'"],
  'docker compose up --wait': ['test/containers/stack.test.ts', "['up', '--detach', '--wait', '--no-build']"],
  'docker compose up --build --wait': [
    'test/containers/devcontainer.test.ts',
    "compose('up', '--build', '--detach', '--wait')",
  ],
  'docker compose down --volumes': ['test/containers/stack.test.ts', "['down', '--volumes']"],
  'docker compose down': ['test/containers/devcontainer.test.ts', "compose('down')"],
  'docker compose exec redis redis-admin': ['test/app/containers/redis.test.ts', "'redis-admin get visits'"],
  'docker build --target single .': ['test/containers/single.test.ts', "'single')"],
  'deploy/rollout': ['test/containers/stack.test.ts', "attempt('deploy/rollout'"],
  'deploy/deploy ssh://deploy@HOST 1.2.3': ['test/deploy/deploy.test.ts', "deploy(['1.0.0'])"],
  'npm test -- deploy': [long, 'run: npm test -- deploy\n'],
  'docker buildx imagetools inspect': [steps, 'docker buildx imagetools inspect'],
  ...Object.fromEntries(
    ['npm install @koa/bodyparser', 'npm install piscina csv-parse'].map((command) => [
      command,
      ['test/template/copy/page.test.ts', 'readCommands(page)'],
    ]),
  ),
  'npm --prefix test/template ci': [everything, ' npm --prefix test/template ci\n'],
  ...Object.fromEntries(
    ['check', 'prose', 'life', 'copy', 'act', 'editor'].map((script) => {
      const command = `npm --prefix test/template run ${script}`;
      return [command, [everything, ` ${command}\n`]];
    }),
  ),
};
const byHand = [
  'npm --prefix test/template run bench', // wants an idle machine
  'docker run --stop-timeout 60', // an option, not a command
  'docker inspect', // what it does not show is tested
];

test.each(pages)('every command of %s is run by something', (page) => {
  for (const command of commandsOf(page)) expect([...Object.keys(runs), ...byHand]).toContain(command);
});

test.each(Object.entries(runs))(
  '%s is run where it is said to be, and stands on a page',
  (command, [file, text]) => {
    expect(pages.flatMap(commandsOf)).toContain(command);
    expect(read(file)).toContain(text);
  },
);
