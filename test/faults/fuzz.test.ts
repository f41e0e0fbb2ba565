import { afterEach, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { readConfig as read, settings } from '../../src/server/config.ts';
import { ConfigError } from '../../src/server/env.ts';
import { rounds, startService, startServiceAtPort } from '../support/battery/harness.ts';
import { addRow } from '../support/battery/table.ts';
import { required } from '../support/judgement.ts';
import { childrenOf, stopAll } from '../support/processes.ts';
import { anyRequest } from './any-request.ts';
import { sendAll } from './bytes.ts';

const readConfig: typeof read = (variables) => read({ ...required, ...variables });

const minute = 60_000;
const requests = rounds(4_000); // each way
const configurations = rounds(2_000);
const atOnce = 200;
/** Given to repeat a run: FAULTS_SEED=… npm test -- faults. */
const seed = Number(process.env.FAULTS_SEED ?? Date.now() % 2 ** 31);

afterEach(stopAll, minute);

test(
  '16: no request whatever makes an error of the server, ends a worker or does what it does not answer',
  async () => {
    const inputs = fc.sample(anyRequest, { numRuns: requests, seed });
    for (const start of [startService, startServiceAtPort]) {
      const service = await start();
      const processes = () => [
        ...service.app.workers(),
        ...(service.nginx ? childrenOf(service.nginx.pid) : []),
      ];
      const before = processes();
      const { statuses, seen } = await sendAll(service, inputs, atOnce);
      const verdict = await service.judge();
      const way = service.nginx ? 'through nginx' : 'direct';
      addRow({
        row: `16 ${way}`,
        fault: `${requests} requests of a fuzzer, ${way}`,
        verdict,
        seen: `seed ${seed}; ${seen}`,
      });
      expect(statuses.wrong).toEqual([]);
      expect(verdict.wrong).toEqual([]);
      expect(processes()).toEqual(before);
      await stopAll();
    }
  },
  5 * minute,
);

test('16: a configuration is one that can be run with, or is refused by the names of what is wrong', () => {
  const value = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.string({ unit: 'binary', maxLength: 30 }),
    fc.integer().map(String),
    fc.double().map(String),
    fc.constantFrom('true', 'false', 'info', '0', '-0', '1e3', '0x10', ' 1', '1 ', 'NaN', 'Infinity', '٣'),
    fc.webUrl(),
    fc.ipV6().map((address) => `[${address}]:80`),
    fc.tuple(fc.domain(), fc.integer({ min: -1, max: 70_000 })).map((parts) => parts.join(':')),
    fc.webPath({ size: 'large' }),
  );
  const names = Object.values(settings).map(({ name }) => name);
  const environment = fc.dictionary(fc.constantFrom(...names), value);
  let accepted = 0;
  fc.assert(
    fc.property(environment, (variables) => {
      try {
        const config = readConfig(variables);
        accepted += 1;
        for (const setting of Object.values(config)) {
          if (typeof setting === 'number') expect(setting).toBeGreaterThanOrEqual(0);
        }
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        const problems = error.message.split('\n').slice(1);
        expect(problems.length).toBeGreaterThan(0);
        for (const problem of problems) {
          expect(Object.keys(variables).some((name) => problem.startsWith(`  ${name} is `))).toBe(true);
        }
      }
    }),
    { numRuns: configurations, seed },
  );
  addRow({
    row: '16 configuration',
    fault: `${configurations} configurations of a fuzzer`,
    seen: `seed ${seed}; ${accepted} accepted, the others refused by name`,
  });
});
