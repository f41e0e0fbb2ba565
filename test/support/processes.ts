/**
 * Real processes for tests and measurements. Whatever a file of this folder starts is ended by stopAll(), which belongs
 * into an afterEach.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Where npm runs its scripts: the root of the repository. */
export const root = process.cwd();

type Ending = () => unknown;
const endings: Ending[] = [];

/** Has stopAll() call `end`. */
export function atEnd(end: Ending): void {
  endings.push(end);
}

/** Ends everything that was started and removes its files, the latest first. */
export async function stopAll(): Promise<void> {
  for (let end = endings.pop(); end; end = endings.pop()) await end();
}

/** A new empty directory, removed by stopAll(). */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'test-'));
  atEnd(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** A process under test, and what it has written so far. */
export interface Running {
  readonly pid: number;
  readonly exited: Promise<Exit>;
  /** Standard output and standard error, in the order of their arrival. */
  output(): string;
  kill(signal: NodeJS.Signals): void;
}

/** Starts a process; the caller ends it. `group`: in a process group of its own. */
export function startProcess(
  command: string,
  args: string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; group?: boolean } = {},
): Running & { child: ChildProcess } {
  const child = spawn(command, args, {
    cwd: options.cwd ?? root,
    env: options.env ?? process.env,
    detached: options.group ?? false,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    output += text;
  });
  const exited = new Promise<Exit>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal }));
  });
  exited.catch(() => {}); // a command that does not exist has no process id, which is noticed below
  if (child.pid === undefined) throw new Error(`${command} cannot be started`);
  return {
    child,
    pid: child.pid,
    exited,
    output: () => output,
    kill: (signal) => {
      child.kill(signal);
    },
  };
}

/** `npm run NAME`, in a process group of its own, which stopAll() ends as a whole. */
export function startScript(
  name: string,
  options: { cwd?: string; env?: Record<string, string> } = {},
): Running {
  const { PATH, HOME } = process.env;
  const env = { PATH, HOME, ...options.env };
  const script = startProcess('npm', ['run', '--silent', name], {
    env,
    cwd: options.cwd ?? root,
    group: true,
  });
  atEnd(async () => {
    killIfRunning(-script.pid, 'SIGKILL');
    await script.exited;
  });
  return script;
}

/** The ids of the processes whose parent is the given one. */
export function childrenOf(parent: number): number[] {
  const children = `/proc/${parent}/task/${parent}/children`; // the main thread forks all of Node's and nginx' children
  if (existsSync('/proc/self/task')) {
    try {
      return readFileSync(children, 'utf8').trim().split(' ').filter(Boolean).map(Number);
    } catch {
      return []; // it has ended
    }
  }
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n');
  return table
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([pid, ppid]) => (ppid === parent ? [pid as number] : []));
}

/** What follows the name in /proc/PID/stat: the state, the parent, … */
export function statOf(pid: number | string): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined; // it has ended
  }
}

/** Whether there is such a process; one that has ended and only waits for its parent does not count. */
export function isRunning(pid: number): boolean {
  if (existsSync('/proc/self/stat')) return !['Z', 'X', undefined].includes(statOf(pid)?.[0]);
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** What `ps` shows as the command of a process. */
export function titleOf(pid: number): string {
  if (!existsSync('/proc/self/stat')) {
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).trim();
  }
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
}

export function killIfRunning(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has ended
  }
}
