import type { Frame, Hello } from '../wire.ts';

interface Listener {
  onHello(hello: Hello): unknown;
  onFrame(frame: Frame): unknown;
  /** Tells in words what is going on. */
  onState(state: string): void;
}

/**
 * Server-sent events that come back: after the end of a stream, after errors 502 to 504, which an EventSource takes for
 * final, and when the tab is looked at again. In between there is none: a browser has six connections to a host.
 */
export function openStream(
  url: string,
  { onHello, onFrame, onState }: Listener,
): { pause(paused: boolean): void } {
  const lostAfter = 2_000; // milliseconds
  let source: EventSource | undefined;
  let paused = false;
  let lost: ReturnType<typeof setTimeout> | undefined;
  let again: ReturnType<typeof setTimeout>;

  function tell(state: string): void {
    clearTimeout(lost);
    lost = undefined;
    onState(state);
  }

  function open(): void {
    clearTimeout(again);
    if (source || paused || document.hidden) return;
    source = new EventSource(url);
    source.addEventListener('hello', ({ data }) => onHello(JSON.parse(data)));
    source.addEventListener('away', () => tell('away: no new data for now'));
    source.onmessage = ({ data }) => {
      tell('live');
      onFrame(JSON.parse(data));
    };
    source.onerror = () => {
      lost ??= setTimeout(() => onState('connection lost, trying again'), lostAfter);
      if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
      close();
      again = setTimeout(open, 500 + 1_500 * Math.random());
    };
  }

  function close(): void {
    source?.close();
    source = undefined;
    clearTimeout(again);
  }

  document.addEventListener('visibilitychange', () => (document.hidden ? close() : open()));
  return {
    pause(now) {
      paused = now;
      close();
      tell(paused ? 'paused' : 'connecting');
      open();
    },
  };
}
