/** The number on the first page, kept new. */
import { find, openStream, pauseBy, showState } from './stream.js';

const hits = find(document, '#hits', HTMLElement);
const stream = openStream(
  () => 'events',
  (data) => {
    hits.textContent = data.hits;
  },
  showState,
);
pauseBy(find(document, '#pause', HTMLButtonElement), stream);
