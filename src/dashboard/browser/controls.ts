/** The controls, and the address bar, which holds what was changed. */
import type { ControlOnPage } from '../wire.ts';
import { element } from './dom.ts';

/** As in an address: a control may have several. */
export type Pairs = [name: string, value: string][];

export interface ControlView {
  element: HTMLElement;
  /** Nothing while it has its own value. */
  changed(): Pairs;
}

/** Milliseconds without another change until it counts: while one types or drags, each change is followed by the next. */
const delays: Partial<Record<ControlOnPage['type'], number>> = { text: 300, number: 300, slider: 60 };

function pairsOf({ name, value }: ControlOnPage): Pairs {
  if (Array.isArray(value)) return value.length > 0 ? value.map((one) => [name, one]) : [[name, '']];
  if (typeof value !== 'object') return [[name, String(value)]];
  return Object.entries(value).map(([end, day]) => [`${name}.${end}`, day]);
}

/** A control with the value that the address has, or its own. `onChange` is called when a change counts. */
export function createControl(control: ControlOnPage, onChange: () => void): ControlView {
  const { name, type, label, choices = [] } = control;
  const own = pairsOf(control);
  const search = new URLSearchParams(location.search);
  const given = own.flatMap(([key]) => search.getAll(key).map((value): [string, string] => [key, value]));
  const fields = createFields(control, given.length > 0 ? given : own);
  const output = element('output', {}, fields[0]?.value ?? '');
  const isGroup = type === 'multiSelect' || type === 'dates';
  const labelled = fields.map((field, i) =>
    type === 'multiSelect' ? element('label', {}, field, choices[i]?.text ?? '') : field,
  );
  const whole = isGroup
    ? element('fieldset', {}, element('legend', {}, label), ...labelled)
    : element('label', {}, label, ...labelled, ...(type === 'slider' ? [output] : []));
  const read = (): Pairs => {
    const now = fields.flatMap((field): Pairs => {
      if (field instanceof HTMLSelectElement || field.type !== 'checkbox') return [[field.name, field.value]];
      if (type === 'checkbox') return [[name, String(field.checked)]];
      return field.checked ? [[name, field.value]] : [];
    });
    return now.length > 0 ? now : [[name, '']];
  };
  let now = read();
  let timer: ReturnType<typeof setTimeout>;
  whole.addEventListener('input', () => {
    output.textContent = fields[0]?.value ?? '';
    if (fields.some((field) => !field.checkValidity())) return; // the style sheet marks it, and the value before counts
    now = read();
    clearTimeout(timer);
    timer = setTimeout(onChange, delays[type] ?? 0);
  });
  const changed = () => (JSON.stringify(now.toSorted()) === JSON.stringify(own.toSorted()) ? [] : now);
  return { element: whole, changed };
}

function createFields(control: ControlOnPage, given: Pairs): (HTMLInputElement | HTMLSelectElement)[] {
  const { name, type, label, choices = [] } = control;
  const read = (key: string) => given.find(([one]) => one === key)?.[1] ?? '';
  switch (type) {
    case 'select': {
      const select = element(
        'select',
        { name },
        ...choices.map(({ value, text }) => new Option(text, value)),
      );
      select.value = read(name);
      if (select.selectedIndex < 0) select.value = String(control.value); // the address has what is no choice any more
      return [select];
    }
    case 'multiSelect':
      return choices.map(({ value }) =>
        element('input', {
          type: 'checkbox',
          name,
          value,
          checked: given.some(([, chosen]) => chosen === value),
        }),
      );
    case 'checkbox':
      return [element('input', { type, name, checked: read(name) === 'true' })];
    case 'dates':
      return ['from', 'to'].map((end) => {
        const field = createInput(control, 'date', `${name}.${end}`, read(`${name}.${end}`));
        field.ariaLabel = `${label}, ${end}`;
        return field;
      });
    default:
      return [createInput(control, type === 'slider' ? 'range' : type, name, read(name))];
  }
}

function createInput(control: ControlOnPage, type: string, name: string, value: string): HTMLInputElement {
  const { min = '', max = '', maxLength } = control;
  const isWhole = type === 'range' && [min, max, control.value].every(Number.isInteger);
  const field = element('input', {
    type,
    name,
    min: String(min),
    max: String(max),
    required: type === 'number',
  });
  if (type !== 'date') field.step = String(control.step ?? (isWhole ? 1 : 'any'));
  if (maxLength !== undefined) field.maxLength = maxLength;
  field.value = value; // last, since it is rounded to a step that is there
  return field;
}

/** Writes what was changed into the address bar. */
export function writeAddress(controls: Iterable<ControlView>): void {
  const search = new URLSearchParams([...controls].flatMap((control) => control.changed())).toString();
  history.replaceState(null, '', search ? `?${search}` : location.pathname.split('/').at(-1));
}
