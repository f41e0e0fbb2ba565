// `npm test [-- SUITE] [arguments of jest]`: one suite of jest.config.js, or those that need no engine.
import { run } from 'jest';
import config from '../jest.config.js';

const light = ['app', 'server', 'nginx'];
const [name = '', ...rest] = process.argv.slice(2);
const isSuite = config.projects.some(({ displayName }) => displayName === name);
const suites = isSuite ? [name] : light;
// Two tests that put the machine under load, or that build images, are in each other's way.
const workers = suites.every((suite) => light.includes(suite)) ? 3 : 1;

process.env.NODE_ENV ??= 'test'; // as jest's own command does
await run([
  ...(isSuite ? rest : process.argv.slice(2)),
  `--maxWorkers=${workers}`,
  '--selectProjects',
  ...suites,
]);
