import type { Setting, Values } from '../contract.ts';

/** What the service cannot run with. The message has one line for each problem. */
export class ConfigError extends Error {
  override name = 'ConfigError';
  constructor(problems: string[], options?: ErrorOptions) {
    super(`bad configuration\n  ${problems.join('\n  ')}`, options);
  }
}

/**
 * Reads settings from environment variables; an empty one counts as absent.
 *
 * @throws {ConfigError} naming every variable that is wrong, what it had and what would be right.
 */
// biome-ignore lint/suspicious/noExplicitAny: any setting's type
export function readSettings<Table extends Record<string, Setting<any>>>(
  table: Table,
  environment: Record<string, string | undefined>,
): Values<Table> {
  const problems: string[] = [];
  const entries = Object.entries(table).map(([key, setting]) => {
    const text = environment[setting.name] || setting.default;
    if (text === undefined) return [key, undefined];
    try {
      return [key, setting.parse(text)];
    } catch (error) {
      const value = setting.secret ? 'wrong (not shown: it may contain a password)' : JSON.stringify(text);
      problems.push(`${setting.name} is ${value}; right would be ${(error as Error).message}`);
      return [key, undefined];
    }
  });
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.fromEntries(entries);
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
