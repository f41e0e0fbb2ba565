// The suites of `npm test -- SUITE`. Each has its tests in a folder of its name: in test, or below test/app.

const services = { globalSetup: './test/support/requirements.ts' };
const table = { globalTeardown: './test/support/battery/table.ts' };

/** @type {Record<string, { globalSetup?: string, globalTeardown?: string }>} What comes before and after their tests. */
const suites = {
  app: services,
  server: services,
  nginx: services,
  pipeline: {},
  containers: { globalSetup: './test/containers/requirements.ts' },
  deploy: { globalSetup: './test/deploy/requirements.ts', ...table },
  faults: { ...services, ...table },
  cluster: { globalSetup: './test/cluster/requirements.ts', ...table },
  browser: services,
};
const notOfApp = Object.keys(suites).filter((name) => name !== 'app');

/** @param {{ displayName: string, testMatch: string[], globalSetup?: string }[]} projects */
export const configure = (projects) => ({
  testTimeout: 180_000,
  projects: projects.map((project) => ({
    rootDir: import.meta.dirname,
    roots: ['<rootDir>/test'],
    // Packages too: most are ES modules alone by now.
    resolver: '<rootDir>/test/support/resolver.cjs',
    transformIgnorePatterns: [],
    transform: {
      '\\.(ts|m?js)$': [
        '@swc/jest',
        { jsc: { target: 'es2023' }, module: { type: 'commonjs' }, isModule: 'unknown' },
      ],
    },
    ...project,
  })),
});

export default configure(
  Object.entries(suites).map(([name, more]) => ({
    ...more,
    displayName: name,
    testMatch: [
      `<rootDir>/test/${name}/**/*.test.ts`,
      name === 'app'
        ? `!**/test/app/**/(${notOfApp.join('|')})/**`
        : `<rootDir>/test/app/**/${name}/**/*.test.ts`,
    ],
  })),
);
