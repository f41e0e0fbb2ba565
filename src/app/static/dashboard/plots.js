/** Draws the figures of the page and keeps them new. */
import { FigureOfPlot } from './figure.js';
import { find, openStream, pauseBy, showState } from './stream.js';

/** @type {Map<string, FigureOfPlot>} */
const figures = new Map();
/** @type {{ at: number, type: string, worker: number }[]} */
let marks = [];

function address(/** @type {string} */ after) {
  const choices = [...figures].flatMap(([name, { choice }]) => (choice ? [[name, choice]] : []));
  return `dashboard/events?${new URLSearchParams([['after', after], ...choices])}`;
}

const stream = openStream(
  address,
  (frame) => {
    marks = frame.marks ?? marks;
    if (frame.marks) listMarks();
    for (const [name, piece] of Object.entries(frame.plots)) figures.get(name)?.add(piece);
    for (const figure of figures.values()) figure.draw();
  },
  (state) => {
    showState(state);
    document.body.dataset.state = state;
  },
);

for (const element of document.querySelectorAll('figure')) {
  const figure = new FigureOfPlot(element, () => marks, showState);
  figures.set(element.id, figure);
  element.querySelector('select')?.addEventListener('change', () => stream.restart());
}
for (const query of ['(prefers-color-scheme: dark)', '(forced-colors: active)']) {
  matchMedia(query).addEventListener('change', () => {
    for (const figure of figures.values()) figure.draw({ anew: true });
  });
}
pauseBy(find(document, '#pause', HTMLButtonElement), stream);

function listMarks() {
  const items = marks.toReversed().map(({ at, type, worker }) => {
    const item = document.createElement('li');
    item.textContent = `${new Date(at).toLocaleTimeString()}: ${worker ? `worker ${worker}` : 'all workers'} ${type}`;
    return item;
  });
  if (items.length > 0) find(document, '#marks', HTMLOListElement).replaceChildren(...items.slice(0, 20));
}
