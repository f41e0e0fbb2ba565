/**
 * The number on the page, kept new by events. They come back after the end of a stream, after errors 502 to 504, which an
 * EventSource takes for final, and when the tab is looked at again. A tab in the background has no stream.
 */
const [hits, state, button] = ['#hits', '#state', '#pause'].map((id) => document.querySelector(id));
const lostAfter = 2_000; // milliseconds
let paused = sessionStorage.getItem('paused') === 'true'; // over reloads of this tab
/** @type {EventSource | undefined} */
let source;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let lost;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let again;

/** @param {string} text */
function show(text) {
  if (state && state.textContent !== text) state.textContent = text;
}

/** @param {string} text */
function alive(text) {
  clearTimeout(lost);
  lost = undefined;
  show(text);
}

function open() {
  clearTimeout(again);
  if (source || paused || document.hidden) return;
  source = new EventSource('events');
  source.onmessage = ({ data }) => {
    alive('live');
    if (hits) hits.textContent = JSON.parse(data).hits;
  };
  source.addEventListener('away', () => alive('the number cannot be read now'));
  source.onerror = () => {
    lost ??= setTimeout(() => show('lost; trying again'), lostAfter);
    if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
    close();
    again = setTimeout(open, 500 + 1_500 * Math.random());
  };
}

function close() {
  source?.close();
  source = undefined;
  clearTimeout(again);
}

function showPaused() {
  sessionStorage.setItem('paused', String(paused));
  button?.setAttribute('aria-pressed', String(paused));
  close();
  if (paused) alive('paused');
  open();
}

addEventListener('pagehide', close);
addEventListener('pageshow', open);
document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
button?.addEventListener('click', () => {
  paused = !paused;
  showPaused();
});
button?.removeAttribute('disabled');
showPaused();
