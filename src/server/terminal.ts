import { closeSync, openSync } from 'node:fs';

/**
 * Whether the log is shown on a terminal that still exists. A terminal that is closed sends SIGHUP, which then means:
 * stop, since its owner sees the service no more.
 */
export function hasTerminal(): boolean {
  if (!process.stdout.isTTY) return false; // the log goes elsewhere: nothing is lost with a terminal
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
