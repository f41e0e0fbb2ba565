/** A real VS Code on a copy of this repository, driven through its own API. */
import { spawn } from 'node:child_process';
import {
  accessSync,
  constants,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { chromium, type Page } from 'playwright-core';
import type * as vscode from 'vscode';
import { isRunning, killIfRunning, titleOf } from '../../support/processes.ts';
import { cloneWorkingTree } from '../../support/repository.ts';
import { freePort } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';

/** Where npm runs its scripts: the root of the repository. */
const root = process.cwd();

/** What a function finds that is called in the editor; `state` is whatever the ones before it have left. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows what it keeps
export type Inside = { vscode: typeof vscode; state: Record<string, any> };

export interface Editor {
  /** The copy that is open: to be edited at will. */
  readonly workspace: string;
  /** The browser's page that shows the editor. */
  readonly page: Page;
  /** Calls a function in the editor's extension host. It may use its arguments only: nothing else goes along. */
  call<T>(body: (inside: Inside) => T): Promise<Awaited<T>>;
  call<T, A>(body: (inside: Inside, argument: A) => T, argument: A): Promise<Awaited<T>>;
  /** Ends the editor, and everything that was started in it and still runs; says what that was. */
  stop(): Promise<string[]>;
}

/** A folder for the editor, with a workspace in it and the extension by which it is called. */
function prepareFolder(settings: object): { folder: string; workspace: string } {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'editor-')));
  const workspace = join(folder, 'counter');
  cloneWorkingTree(workspace);
  symlinkSync(realpathSync(join(root, 'node_modules')), join(workspace, 'node_modules'));
  cpSync(join(root, 'test/template/editor/bridge'), join(folder, 'extensions/test.bridge-1.0.0'), {
    recursive: true,
  });
  mkdirSync(join(folder, 'data/User'), { recursive: true });
  writeFileSync(join(folder, 'data/User/settings.json'), JSON.stringify(settings));
  return { folder, workspace };
}

/** Opens the editor with these user settings and environment variables, and waits until it can be called. */
export async function startEditor(settings: object, env: Record<string, string>): Promise<Editor> {
  const command = findCommand(
    'CODE_SERVER',
    ['code-server'],
    'the editor: https://coder.com/docs/code-server/install',
  );
  const browserCommand = findCommand(
    'CHROMIUM',
    ['chromium', 'chromium-browser', 'google-chrome'],
    'Chromium',
  );
  const { folder, workspace } = prepareFolder(settings);
  const port = await freePort();
  const bridge = join(folder, 'bridge.sock');
  const server = spawn(
    command,
    [
      ...['--bind-addr', `127.0.0.1:${port}`, '--auth', 'none', '--config', join(folder, 'config.yaml')],
      ...['--user-data-dir', join(folder, 'data'), '--extensions-dir', join(folder, 'extensions')],
      ...['--disable-telemetry', '--disable-update-check', '--disable-workspace-trust'],
      '--disable-getting-started-override',
    ],
    // Only what is needed: settings of the developer's own shell have no part in a test.
    {
      cwd: folder,
      env: { PATH: process.env.PATH, HOME: process.env.HOME, LANG: 'C.UTF-8', ...env, EDITOR_BRIDGE: bridge },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let output = '';
  for (const stream of [server.stdout, server.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
  }
  const endings: (() => unknown)[] = [];
  async function stop(): Promise<string[]> {
    for (let end = endings.pop(); end; end = endings.pop()) await end();
    server.kill('SIGTERM');
    await waitFor(() => server.exitCode !== null || server.signalCode !== null, 'the editor to end');
    // The editor's own helpers notice that it has gone; whatever else is there would stay.
    await waitFor(() => processesIn(folder).size === 0, 'everything to end').catch(() => {});
    const left = processesIn(folder);
    for (const pid of left.keys()) killIfRunning(pid, 'SIGKILL');
    await waitFor(() => processesIn(folder).size === 0, 'everything to be killed');
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    return [...left].map(([pid, title]) => `${pid} ${title}`);
  }

  try {
    await waitFor(() => /HTTP server listening on/.test(output), 'the editor to listen', 60_000);
    const browser = await chromium.launch({
      executablePath: browserCommand,
      args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
    });
    endings.push(() => browser.close());
    const page = await browser.newPage({ viewport: { width: 1400, height: 900 } });
    await page.goto(`http://127.0.0.1:${port}/?folder=${encodeURIComponent(workspace)}`);
    // The extension host starts with the page.
    await waitFor(() => existsSync(bridge), 'the extension that is called', 60_000);
    return { workspace, page, call: await openBridge(bridge, endings), stop };
  } catch (error) {
    await stop();
    throw new Error(`the editor did not start:\n${output}`, { cause: error });
  }
}

/** @throws with what to do, if the command is neither given nor found. */
function findCommand(variable: string, names: string[], what: string): string {
  const given = process.env[variable];
  const candidates = given
    ? [given]
    : (process.env.PATH ?? '')
        .split(delimiter)
        .flatMap((directory) => names.map((name) => join(directory, name)));
  for (const candidate of candidates) {
    try {
      accessSync(candidate, constants.X_OK);
      return candidate;
    } catch {
      // the next one
    }
  }
  throw new Error(
    given
      ? `${variable} is ${given}, which cannot be executed`
      : `this test needs ${what}; put ${names[0]} on PATH, or its path into ${variable}`,
  );
}

/** The processes whose working directory is a folder or below it, by their ids, with their titles; on Linux only. */
export function processesIn(folder: string): Map<number, string> {
  const found = new Map<number, string>();
  for (const pid of existsSync('/proc/self/cwd') ? readdirSync('/proc').map(Number) : []) {
    try {
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      if (cwd !== folder && !cwd.startsWith(`${folder}/`)) continue;
      if (isRunning(pid)) found.set(pid, titleOf(pid));
    } catch {
      // not a process, or it has ended
    }
  }
  return found;
}

async function openBridge(path: string, endings: (() => unknown)[]): Promise<Editor['call']> {
  const socket = await waitFor(
    () =>
      new Promise<ReturnType<typeof connect>>((resolve, reject) => {
        const attempt = connect(path, () => resolve(attempt)).once('error', reject);
      }),
    'the bridge into the editor',
  );
  endings.push(() => socket.destroy());
  type Answer = { id: number; value?: unknown; error?: string };
  const waiting = new Map<number, (answer: Answer) => void>();
  createInterface({ input: socket }).on('line', (line) => {
    const answer: Answer = JSON.parse(line);
    waiting.get(answer.id)?.(answer);
    waiting.delete(answer.id);
  });
  socket.on('close', () => {
    for (const [id, answer] of waiting) answer({ id, error: 'the editor has gone' });
  });
  let calls = 0;
  return (body: unknown, argument?: unknown) =>
    new Promise((resolve, reject) => {
      const id = calls++;
      waiting.set(id, ({ value, error }) =>
        error === undefined ? resolve(value as never) : reject(new Error(`in the editor: ${error}`)),
      );
      socket.write(`${JSON.stringify({ id, body: String(body), argument })}\n`);
    });
}
