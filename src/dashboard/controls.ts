/** Controls: what the page learns of them, and the values that a query gives to them. */
import type { Control, Controls } from '../plots.ts';
import type { ControlOnPage } from './wire.ts';

/** The query does not fit the controls: answered 400. The message says what would be right. */
export class BadQuery extends Error {
  override name = 'BadQuery';
  status = 400;
  expose = true;
}

type AnyControl = Control<unknown>;

async function choicesOf({ choices = [] }: AnyControl): Promise<{ value: string; text: string }[]> {
  const list = typeof choices === 'function' ? await choices() : choices;
  return Array.isArray(list)
    ? list.map((value) => ({ value, text: value }))
    : Object.entries(list).map(([value, text]) => ({ value, text }));
}

/** The control as the page shows it. Its choices are asked. */
export async function describeControl(name: string, control: AnyControl): Promise<ControlOnPage> {
  const { label = name, choices: given, ...rest } = control;
  if (given === undefined) return { ...rest, name, label } as ControlOnPage;
  const choices = await choicesOf(control);
  const values = choices.map(({ value }) => value);
  const value = Array.isArray(rest.value)
    ? rest.value.filter((chosen) => values.includes(chosen))
    : values.find((candidate) => candidate === rest.value);
  return { ...rest, name, label, choices, value: value ?? values[0] ?? '' };
}

/**
 * The value of each control, by its name.
 *
 * @throws {BadQuery} if the query has anything else.
 */
export async function readValues(
  controls: Controls,
  query: URLSearchParams,
): Promise<Record<string, unknown>> {
  const left = new Set(query.keys());
  const take = (name: string) => (left.delete(name) ? query.getAll(name) : undefined);
  const values: Record<string, unknown> = {};
  for (const [name, control] of Object.entries(controls)) {
    const described = await describeControl(name, control);
    values[name] = described.type === 'dates' ? readDays(described, take) : readValue(described, take(name));
  }
  for (const name of left) {
    const known = Object.keys(controls).join(', ') || 'none';
    throw new BadQuery(`there is no control ${JSON.stringify(name)}; the controls here: ${known}`);
  }
  return values;
}

function readValue(control: ControlOnPage, texts: string[] | undefined): unknown {
  const { name, type, choices = [], maxLength = 0 } = control;
  if (texts === undefined) return control.value;
  const refuse = (right: string): never => {
    throw new BadQuery(
      `${name} is ${texts.map((text) => JSON.stringify(text)).join(', ')}; right would be ${right}`,
    );
  };
  const known = choices.map(({ value }) => value);
  if (type === 'multiSelect') {
    const chosen = texts.filter((text) => text !== '');
    return chosen.every((text) => known.includes(text)) ? chosen : refuse(`some of ${known.join(', ')}`);
  }
  const text = texts.length === 1 ? (texts[0] as string) : refuse('one value');
  switch (type) {
    case 'select':
      return known.includes(text) ? text : refuse(`one of ${known.join(', ')}`);
    case 'checkbox':
      return /^(true|false)$/.test(text) ? text === 'true' : refuse('true or false');
    case 'text':
      return text.length <= maxLength ? text : refuse(`a text of at most ${maxLength} characters`);
    default:
      return readNumber(control, text) ?? refuse(`a number${rangeOf(control)}`);
  }
}

function readNumber({ min = -Infinity, max = Infinity }: ControlOnPage, text: string): number | undefined {
  const number = text.trim() === '' ? Number.NaN : Number(text);
  return Number.isFinite(number) && number >= Number(min) && number <= Number(max) ? number : undefined;
}

function readDays(control: ControlOnPage, take: (name: string) => string[] | undefined): unknown {
  const { name, value, min = '', max = '9999-12-31' } = control;
  const own = value as { from: string; to: string };
  const read = (end: 'from' | 'to') => {
    const [day = own[end], ...more] = take(`${name}.${end}`) ?? [];
    const isRight = day === '' || (isDay(day) && day >= String(min) && day <= String(max));
    if (isRight && more.length === 0) return day;
    throw new BadQuery(
      `${name}.${end} is ${JSON.stringify(day)}; right would be a day${rangeOf(control)}, such as 2026-11-28`,
    );
  };
  const days = { from: read('from'), to: read('to') };
  if (days.from && days.to && days.from > days.to) {
    throw new BadQuery(`${name} is from ${days.from} to ${days.to}; right would be the earlier day first`);
  }
  return days;
}

function isDay(text: string): boolean {
  const time = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text); // no 31st of February
}

const rangeOf = ({ min, max }: ControlOnPage) =>
  `${min === undefined ? '' : ` from ${min}`}${max === undefined ? '' : ` to ${max}`}`;
