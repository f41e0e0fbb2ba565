/**
 * Server-sent events that come back: after the end of a stream, after errors 502 to 504, which an EventSource takes for
 * final, and when the tab is looked at again. In between there is none: a browser has six connections to a host.
 *
 * @param {(after: string) => string} url the address, with the last id that was seen
 * @param {(data: any) => void} onData
 * @param {(state: string) => void} onState tells in words what is going on
 */
export function openStream(url, onData, onState) {
  const lostAfter = 2_000; // milliseconds
  /** @type {EventSource | undefined} */
  let source;
  let lastId = '';
  let wanted = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let lost;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let again;

  /** @param {string} state */
  function alive(state) {
    clearTimeout(lost);
    lost = undefined;
    onState(state);
  }

  function open() {
    clearTimeout(again);
    if (source || !wanted || document.hidden) return;
    source = new EventSource(url(lastId));
    source.onmessage = (event) => {
      lastId = event.lastEventId || lastId;
      alive('live');
      onData(JSON.parse(event.data));
    };
    source.addEventListener('away', () => alive('the data cannot be read now: Redis is away'));
    source.onerror = () => {
      lost ??= setTimeout(() => onState('lost; trying again'), lostAfter);
      if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
      close();
      again = setTimeout(askWhy, 300 + 700 * Math.random());
    };
  }

  function close() {
    source?.close();
    source = undefined;
    clearTimeout(again);
  }

  async function askWhy() {
    const status = await fetch(url(lastId), { method: 'HEAD' }).then(
      (answer) => answer.status,
      () => 0,
    );
    if (status === 204 || status === 404) {
      alive(status === 204 ? 'too many viewers; trying again' : 'switched off');
      again = setTimeout(askWhy, 10_000);
    } else {
      open();
    }
  }

  addEventListener('pagehide', close);
  addEventListener('pageshow', open);
  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
  return {
    /** Opens it, or begins anew, as after a change of what `url` says. */
    restart() {
      wanted = true;
      close();
      open();
    },
    pause() {
      wanted = false;
      close();
      alive('paused');
    },
  };
}

/**
 * A button that pauses the stream; it stays paused in this tab over reloads.
 *
 * @param {HTMLButtonElement} button
 * @param {ReturnType<typeof openStream>} stream
 */
export function pauseBy(button, stream) {
  let paused = sessionStorage.getItem('paused') === 'true';
  function show() {
    sessionStorage.setItem('paused', String(paused));
    button.setAttribute('aria-pressed', String(paused));
    if (paused) stream.pause();
    else stream.restart();
  }
  button.addEventListener('click', () => {
    paused = !paused;
    show();
  });
  button.disabled = false;
  show();
}

/**
 * @template {Element} Kind
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => Kind} kind
 * @returns {Kind} the element that must be there
 */
export function find(parent, selector, kind) {
  const element = parent.querySelector(selector);
  if (!(element instanceof kind)) throw new Error(`no ${selector}`);
  return element;
}

/** @param {string} text */
export function showState(text) {
  const state = find(document, '#state', HTMLElement);
  if (state.textContent !== text) state.textContent = text;
}
