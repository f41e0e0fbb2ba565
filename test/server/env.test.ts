import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { ConfigError, integer, oneOf, readSettings, seconds } from '../../src/server/env.ts';
import { stopAll, temporaryDirectory } from '../support/processes.ts';

const table = {
  size: { name: 'SIZE', default: '3', meaning: 'of the thing', parse: integer(1, 10) },
  colour: { name: 'COLOUR', default: undefined, meaning: 'of the thing', parse: oneOf(['red', 'blue']) },
  wait: { name: 'WAIT', default: '0.5', meaning: 'for the thing', parse: seconds(0) },
};

test('an absent variable gives its default, and without one nothing', () => {
  expect(readSettings(table, {})).toEqual({ size: 3, colour: undefined, wait: 500 });
});

test('an empty variable counts as absent', () => {
  const empty = { SIZE: '', COLOUR: '', WAIT: '' };
  expect(readSettings(table, empty)).toEqual(readSettings(table, {}));
});

test('a setting that must be set is named as one that is not', () => {
  const parse = (text: string) => oneOf(['red', 'blue'])(text);
  for (const secret of [true, false]) {
    const own = { colour: { name: 'COLOUR', default: '', meaning: '', secret, parse } };
    expect(() => readSettings(own, {})).toThrow('COLOUR is not set; right would be one of red, blue');
  }
});

describe('a secret', () => {
  const parse = (text: string) => text;
  const secret = { key: { name: 'API_KEY', default: undefined, meaning: '', secret: true, parse } };
  let folder: string;
  beforeEach(() => {
    folder = temporaryDirectory();
  });
  afterAll(stopAll);
  const put = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  const read = (variables: Record<string, string>) => readSettings(secret, variables, folder).key;

  test('is read from the file that NAME_FILE names, then from NAME in the folder, then from NAME', () => {
    const file = put('named', 'by file');
    expect(read({ API_KEY: 'by variable' })).toBe('by variable');
    put('API_KEY', 'by folder');
    expect(read({ API_KEY: 'by variable' })).toBe('by folder');
    expect(read({ API_KEY: 'by variable', API_KEY_FILE: file })).toBe('by file');
  });

  test.each(['plain', 'plain\n', 'plain\r\n', '"quoted" = # $HOME \\ä', 'two\r\nlines\n'])(
    'is %j as it was written',
    (text) => {
      expect(read({ API_KEY_FILE: put('named', text) })).toBe(text.replace(/\r?\n$/, ''));
    },
  );

  test('is read anew at each access, and an access fails while it cannot be', () => {
    const file = put('API_KEY', 'first');
    const values = readSettings(secret, {}, folder);
    expect(values.key).toBe('first');
    put('API_KEY', 'second');
    expect(values.key).toBe('second');
    rmSync(file);
    expect(() => values.key).toThrow(`API_KEY cannot be read from ${file} (ENOENT)`);
  });

  test('in a wrong file is named, without its value', () => {
    const own = { key: { ...secret.key, parse: oneOf(['red']) } };
    const file = put('API_KEY', 's3cr3t');
    expect(() => readSettings(own, {}, folder)).toThrow(
      `API_KEY in ${file} is wrong (not shown: it may contain a password); right would be one of red`,
    );
    const missing = join(folder, 'missing');
    expect(() => read({ API_KEY_FILE: missing })).toThrow(`API_KEY cannot be read from ${missing} (ENOENT)`);
  });

  test('has no file where the table has a setting for it, nor has a setting that is no secret', () => {
    const file = put('named', 'by file');
    const own = { ...secret, path: { ...secret.key, name: 'API_KEY_FILE', secret: false } };
    expect(readSettings(own, { API_KEY_FILE: file }, folder)).toEqual({ key: undefined, path: file });
    put('COLOUR', 'blue');
    expect(readSettings(table, { SIZE_FILE: file }, folder)).toEqual(readSettings(table, {}));
  });
});

test('variables that are in no table are left alone', () => {
  expect(readSettings(table, { SIZE: '7', PATH: '/bin' })).toEqual({ size: 7, wait: 500 });
});

test('one error has a line for each wrong variable: its name, what it has, and what would be right', () => {
  const read = () => readSettings(table, { SIZE: '11', COLOUR: 'pale "green"', WAIT: '1' });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(
    [
      'bad configuration',
      '  SIZE is "11"; right would be a whole number from 1 to 10',
      '  COLOUR is "pale \\"green\\""; right would be one of red, blue',
    ].join('\n'),
  );
});

test('the words of a setting that cannot parse its value are in the message', () => {
  const parse = () => {
    throw new Error('a prime');
  };
  const own = { prime: { name: 'PRIME', default: undefined, meaning: '', parse } };
  expect(() => readSettings(own, { PRIME: '4' })).toThrow('PRIME is "4"; right would be a prime');
});

test.each(['0', '11', '-1', '1.5', '1e0', '0x1', ' 1', '1 ', 'one', 'NaN', 'Infinity'])(
  '%j is no whole number from 1 to 10',
  (text) => {
    expect(() => integer(1, 10)(text)).toThrow('a whole number from 1 to 10');
  },
);

test.each(['0.09', '3600.1', '-1', '.5', '5.', '1e1', '30s', 'Infinity', ' 1'])(
  '%j is no time from 0.1 to 3600 seconds',
  (text) => {
    expect(() => seconds(0.1)(text)).toThrow('seconds, from 0.1 to 3600');
  },
);

test('seconds become milliseconds, with fractions', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3600 * 10 }), (tenths) => {
      expect(seconds(0)(String(tenths / 10))).toBeCloseTo(tenths * 100);
    }),
  );
});

test('a word is taken as it is written', () => {
  expect(oneOf(['red', 'blue'])('blue')).toBe('blue');
  expect(() => oneOf(['red', 'blue'])('Blue')).toThrow('one of red, blue');
});
