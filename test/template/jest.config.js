// The suites of this folder, by the names of package.json beside it.
import { configure } from '../../jest.config.js';

const services = { globalSetup: './test/support/requirements.ts' };
const suites = {
  act: { globalSetup: './test/deploy/requirements.ts' },
  bench: services,
  copy: {},
  editor: {},
  life: services,
  prose: {},
};

export default configure(
  Object.entries(suites).map(([name, more]) => ({
    ...more,
    displayName: name,
    testMatch: [`<rootDir>/test/template/${name}/*.test.ts`],
  })),
);
