/** Waiting for something that happens elsewhere: in another process, in a file, on a connection. */

export const delay = (milliseconds: number) =>
  new Promise<void>((resume) => setTimeout(resume, milliseconds));

/**
 * Resolves to the first value of `condition` that is neither false nor undefined nor null. A condition that throws is
 * not met yet. If it is never met within `limit` milliseconds, its last error is the cause of the rejection.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  what = 'the condition',
  limit = 60_000,
): Promise<Exclude<T, false | undefined | null>> {
  const end = performance.now() + limit;
  for (;;) {
    let cause: unknown;
    try {
      const value = await condition();
      if (value !== false && value !== undefined && value !== null) {
        return value as Exclude<T, false | undefined | null>;
      }
    } catch (error) {
      cause = error;
    }
    if (performance.now() > end) throw new Error(`waited ${limit} ms in vain for ${what}`, { cause });
    await delay(20);
  }
}
