import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { serverSettings } from '../../src/server/config.ts';

test('the table in docs/settings.md is the one in the code', () => {
  const page = readFileSync('docs/settings.md', 'utf8');
  const [, table = ''] =
    /^\| setting \| default \| meaning \|\n\| [-| ]+ \|\n((?:\|.*\n)+)/m.exec(page) ?? [];
  const rows = table
    .trimEnd()
    .split('\n')
    .map((row) => row.split(/(?<!\\)\|/).map((cell) => cell.trim()));
  expect(rows.map(([, name, value, meaning]) => [name, value, meaning])).toEqual(
    Object.values(serverSettings).map(({ name, default: value, meaning }) => [
      `\`${name}\``,
      value === undefined ? '' : `\`${value}\``,
      meaning,
    ]),
  );
});
