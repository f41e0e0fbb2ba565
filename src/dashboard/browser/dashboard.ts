/** The page of the plots: reads what there is, draws it, and keeps it new. */
import type { ControlOnPage, Frame, PageOfPlots, PlotOnPage } from '../wire.ts';
import { Card } from './card.ts';
import { type ControlView, createControl, writeAddress } from './controls.ts';
import { element, fill } from './dom.ts';
import { openStream } from './stream.ts';

const find = (selector: string) => document.querySelector(selector) as HTMLElement;
const pauseButton = find('#pause') as HTMLButtonElement;

let version = '';
/** By what the server says of them, so that one that is still the same stays as it is. */
let cards = new Map<string, Card>();
let controls = new Map<string, { text: string; view: ControlView }>();
let restUntil = 0;
let drawing = false;

/** Reads the table of plots and shows it. What is still the same keeps its picture until the new one is there. */
async function load(): Promise<void> {
  const answer = await fetch('dashboard/plots.json');
  if (!answer.ok) throw new Error(`plots.json: ${answer.status}`);
  const { plots, instance, ...page }: PageOfPlots = await answer.json();
  version = page.version;
  const all = plots.flatMap((plot) => plot.controls);
  controls = new Map(all.map((control) => [control.name, keepOrCreate(control)]));
  const isShared = ({ name }: ControlOnPage) => all.filter((control) => control.name === name).length > 1;
  fill(find('#controls'), [...new Set(all.filter(isShared).map(elementOf))]);
  const before = cards;
  cards = new Map();
  const parts = plots.map((plot) => {
    if (plot.kind === 'heading') return heading(plot);
    const text = JSON.stringify(plot);
    const changed = () => plot.controls.flatMap(({ name }) => controls.get(name)?.view.changed() ?? []);
    const card = before.get(text) ?? new Card(plot, changed);
    before.delete(text);
    cards.set(text, card);
    fill(card.tools, plot.controls.filter((control) => !isShared(control)).map(elementOf));
    return card.element;
  });
  fill(find('main'), parts);
  for (const card of before.values()) card.remove();
  const isOfThis = instance === 'this' && plots.some(({ kind }) => kind === 'live');
  find('#scope').textContent = isOfThis ? 'Live figures show this instance alone.' : '';
  await Promise.all([...cards.values()].map((card) => card.ask()));
}

const elementOf = ({ name }: ControlOnPage) => (controls.get(name) as { view: ControlView }).view.element;

function heading({ title, text }: PlotOnPage): HTMLElement {
  return element('div', { className: 'heading' }, element('h2', {}, title), element('p', {}, text ?? ''));
}

function keepOrCreate(control: ControlOnPage): { text: string; view: ControlView } {
  const text = JSON.stringify(control);
  const before = controls.get(control.name);
  if (before?.text === text) return before;
  const onChange = () => {
    writeAddress([...controls.values()].map(({ view }) => view));
    for (const card of cards.values()) {
      if (card.plot.controls.some(({ name }) => name === control.name)) card.ask();
    }
  };
  return { text, view: createControl(control, onChange) };
}

/** Draws live figures, and then rests so long that drawing takes a sixteenth of the time at most. */
async function showFrame({ second, live }: Frame): Promise<void> {
  const changed = [...cards.values()].filter(({ plot }) => live[plot.name]);
  for (const card of changed) card.add(live[card.plot.name] ?? {}, second);
  if (drawing || performance.now() < restUntil) return;
  drawing = true;
  const begin = performance.now();
  for (const card of changed) await card.draw().catch(() => {}); // an answer may overtake it
  restUntil = performance.now() + 15 * (performance.now() - begin);
  drawing = false;
}

function showState(text: string): void {
  const state = find('#state');
  if (state.textContent !== text) state.textContent = text;
  document.body.dataset.state = text.split(/\W/)[0];
}

/** The same, again and again until it succeeds. */
const tryToLoad = (): Promise<unknown> => load().catch(() => setTimeout(tryToLoad, 2_000));

const stream = openStream('dashboard/events', {
  onHello: (hello) => version && hello.version !== version && tryToLoad(),
  onFrame: showFrame,
  onState: showState,
});

function pause(paused: boolean): void {
  sessionStorage.setItem('paused', String(paused)); // it stays so over a reload
  pauseButton.ariaPressed = String(paused);
  Card.paused = paused;
  stream.pause(paused);
}
pauseButton.addEventListener('click', () => pause(!Card.paused));

const redraw = () => Promise.all([...cards.values()].map((card) => card.draw(true)));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
for (const [event, printing] of [
  ['beforeprint', true],
  ['afterprint', false],
] as const) {
  addEventListener(event, () => {
    document.documentElement.classList.toggle('print', printing);
    redraw();
  });
}

pause(sessionStorage.getItem('paused') === 'true');
tryToLoad();
