import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Setting, Values } from '../contract.ts';

/** What the service cannot run with. The message has one line for each problem. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  constructor(problems: string[], options?: ErrorOptions) {
    super(`bad configuration\n  ${problems.join('\n  ')}`, options);
  }
}

// biome-ignore lint/suspicious/noExplicitAny: any setting's type
type AnySetting = Setting<any>;

/** Where a deployment puts secrets: a file for each, with its name. */
const secretsFolder = '/run/secrets';

/**
 * Reads settings from environment variables; an empty one counts as absent. A secret is also read from the file that
 * NAME_FILE names, or from NAME in `folder`, before the variable: then each access reads it anew, and throws if it
 * cannot. A table that has a setting NAME_FILE of its own reads that file itself.
 *
 * @throws {ConfigError} naming every variable that is wrong, what it had and what would be right.
 */
export function readSettings<Table extends Record<string, AnySetting>>(
  table: Table,
  environment: Record<string, string | undefined>,
  folder = secretsFolder,
): Values<Table> {
  const problems: string[] = [];
  const values = {};
  const own = new Set(Object.values(table).map(({ name }) => name));
  for (const [key, setting] of Object.entries(table)) {
    const variable = own.has(`${setting.name}_FILE`) ? undefined : environment[`${setting.name}_FILE`];
    const deployed = join(folder, setting.name);
    const file = setting.secret ? variable || (existsSync(deployed) ? deployed : undefined) : undefined;
    const get = () =>
      parseSetting(setting, file ? readSecret(setting, file) : environment[setting.name], file);
    try {
      const value = get();
      Object.defineProperty(values, key, {
        enumerable: true,
        ...(file ? { get } : { value, writable: true }),
      });
    } catch (error) {
      problems.push((error as Error).message);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return values as Values<Table>;
}

function readSecret({ name }: AnySetting, file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new Error(`${name} cannot be read from ${file} (${code}); right would be a file with it`);
  }
}

function parseSetting(
  { name, secret, default: otherwise, parse }: AnySetting,
  found = '',
  file?: string,
): unknown {
  // Editors end a file with a newline, Windows with a carriage return, too.
  const text = (secret ? found.replace(/[\r\n]+$/, '') : found) || otherwise;
  if (text === undefined) return undefined;
  try {
    return parse(text);
  } catch (error) {
    const shown = secret ? 'wrong (not shown: it may contain a password)' : JSON.stringify(text);
    const value = text === '' ? 'not set' : shown;
    throw new Error(
      `${name}${file ? ` in ${file}` : ''} is ${value}; right would be ${(error as Error).message}`,
    );
  }
}

/** A whole number. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) {
      throw new Error(`a whole number from ${min} to ${max}`);
    }
    return value;
  };
}

/** Seconds, which become milliseconds. */
export function seconds(min: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+(\.\d+)?$/.test(text) || value < min || value > 3600) {
      throw new Error(`seconds, from ${min} to 3600`);
    }
    return value * 1000;
  };
}

/** One of these words. */
export function oneOf<T extends string>(values: readonly T[]): (text: string) => T {
  return (text) => {
    const value = values.find((candidate) => candidate === text);
    if (value === undefined) throw new Error(`one of ${values.join(', ')}`);
    return value;
  };
}
