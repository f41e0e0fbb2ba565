/** Pauses between tries, in milliseconds: `initial`, then twice the one before, `max` at most. */
export function createBackoff(initial: number, max: number): { next(): number; reset(): void } {
  let pause = initial;
  return {
    next() {
      const current = pause;
      pause = Math.min(2 * pause, max);
      return current;
    },
    reset() {
      pause = initial;
    },
  };
}
