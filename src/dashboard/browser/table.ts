import { element } from './dom.ts';
import { type Row, type Times, textOf } from './drawing.ts';

const page = 50; // rows that are shown at once

/** Rows as a table, sorted by a click on a heading. It keeps its order when it is shown again. */
export class Table {
  readonly element = element('div', { className: 'table', tabIndex: 0, role: 'region' });
  #rows: Row[] = [];
  #times: Times = { fields: new Set(), utc: false };
  #field = '';
  #direction = 1;
  #shown = page;

  constructor(title: string) {
    this.element.ariaLabel = `${title}, as a table`;
  }

  show(rows: Row[], times = this.#times): void {
    this.#rows = rows;
    this.#times = times;
    const fields = Object.keys(rows[0] ?? {});
    const numeric = new Set(
      fields.filter((field) => !times.fields.has(field) && typeof rows[0]?.[field] === 'number'),
    );
    const sorted = fields.includes(this.#field) ? rows.toSorted((a, b) => this.#compare(a, b)) : rows;
    const head = element('tr', {}, ...fields.map((field) => this.#heading(field, numeric.has(field))));
    const body = sorted.slice(0, this.#shown).map((row) => {
      const cells = fields.map((field) =>
        element('td', { className: numeric.has(field) ? 'number' : '' }, textOf(row[field], field, times)),
      );
      return element('tr', {}, ...cells);
    });
    const more = element(
      'button',
      { type: 'button', onclick: () => this.#showMore() },
      `Show more of ${rows.length} rows`,
    );
    more.hidden = rows.length <= this.#shown;
    this.element.replaceChildren(
      element('table', {}, element('thead', {}, head), element('tbody', {}, ...body)),
      more,
    );
  }

  #showMore(): void {
    this.#shown += 10 * page;
    this.show(this.#rows);
  }

  #heading(field: string, numeric: boolean): HTMLElement {
    const sort = () => {
      this.#direction = this.#field === field ? -this.#direction : 1;
      this.#field = field;
      this.show(this.#rows);
      this.element.querySelector<HTMLElement>('[aria-sort] button')?.focus();
    };
    const heading = element(
      'th',
      { scope: 'col', className: numeric ? 'number' : '' },
      element('button', { type: 'button', onclick: sort }, field),
    );
    if (field === this.#field) heading.ariaSort = this.#direction > 0 ? 'ascending' : 'descending';
    return heading;
  }

  #compare(a: Row, b: Row): number {
    const [one = null, other = null] = [a[this.#field], b[this.#field]];
    if (one === null || other === null) return Number(one === null) - Number(other === null); // none is last
    return this.#direction * (one < other ? -1 : Number(one > other));
  }
}
