/** The door of src/app/service.ts: what its owner keeps when he replaces what is behind it. */
import { readFileSync } from 'node:fs';

/** The types, from the first one to the last; all else in the file is the app's own. */
export function readDoor(): string {
  const text = readFileSync('src/app/service.ts', 'utf8');
  const start = text.indexOf('/** What the server runs');
  const end = text.indexOf('/**\n * Called once in each worker');
  if (start < 0 || end < start) throw new Error('src/app/service.ts has no door where it is looked for');
  return text.slice(start, end);
}
