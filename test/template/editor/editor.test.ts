import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, jest, test as testAlone } from '@jest/globals';
import { parse } from 'jsonc-parser';
import type { Task, TaskExecution } from 'vscode';
import { childrenOf, killIfRunning } from '../../support/processes.ts';
import { request } from '../../support/requests.ts';
import { waitFor } from '../../support/wait.ts';
import { type Editor, processesIn, startEditor } from './editor.ts';

jest.setTimeout(120_000);
const patience = 60_000; // milliseconds for what takes one second on an idle machine

const read = (file: string) => parse(readFileSync(file, 'utf8'));
const { portsAttributes, otherPortsAttributes, customizations } = read('.devcontainer/devcontainer.json');
const launchedAt: string = read('.vscode/launch.json').configurations.find(
  ({ name }: { name: string }) => name === 'launch',
).env.LISTEN;

/** Each test goes on where the one before it has come to: after a failure there is nothing more to learn. */
let failed = false;
function test(name: string, body: () => Promise<void>): void {
  testAlone(name, async () => {
    if (failed) throw new Error('not tried, since a test before it has failed');
    failed = true;
    await body();
    failed = false;
  });
}

const endingTasks = ['check', 'build', 'test'];

let editor: Editor;
let port: number;

beforeAll(async () => {
  port = await freePreviewPort();
  editor = await startEditor(
    {
      ...customizations.vscode.settings,
      // As the dev container has them, for the port that the app has here.
      'remote.portsAttributes': { [port]: portsAttributes['8080'] },
      'remote.otherPortsAttributes': otherPortsAttributes,
      'files.autoSave': 'off',
      'workbench.startupEditor': 'none',
    },
    // A worker that is held at a breakpoint must be killable within a test's patience.
    { LISTEN: `127.0.0.1:${port}`, WEB_CONCURRENCY: '2', GRACEFUL_TIMEOUT: '6' },
  );
  await editor.call(({ vscode, state }) => {
    state.ends = []; // of tasks: their exit codes
    vscode.tasks.onDidEndTaskProcess(({ execution, exitCode }) =>
      state.ends.push([execution.task.name, exitCode]),
    );
    state.compiled = []; // by a task that runs on: whether it found errors
    (vscode.tasks as unknown as ProposedTasks).onDidEndTaskProblemMatchers(({ execution, hasErrors }) => {
      if (execution.task.isBackground) state.compiled.push(hasErrors);
    });
    state.sessions = new Map();
    vscode.debug.onDidStartDebugSession((session) => state.sessions.set(session.id, session));
    vscode.debug.onDidTerminateDebugSession((session) => state.sessions.delete(session.id));
    state.stops = [];
    vscode.debug.registerDebugAdapterTrackerFactory('*', {
      createDebugAdapterTracker: ({ id }) => ({
        onDidSendMessage({ type, event, body }) {
          if (type === 'event' && event === 'stopped')
            state.stops.push({ session: id, thread: body.threadId });
        },
      }),
    });
  });
});

let left: string[] | undefined;
afterAll(async () => {
  left = await editor?.stop();
  expect(left).toEqual([]);
});

/** Of an API that is not final: https://github.com/microsoft/vscode, taskProblemMatcherStatus. */
interface ProposedTasks {
  onDidEndTaskProblemMatchers(
    listener: (event: { execution: TaskExecution; hasErrors: boolean }) => void,
  ): void;
}

/** The editor takes a port below 10,000 for a server that a person wants to see, and opens its preview. */
async function freePreviewPort(): Promise<number> {
  for (let candidate = 8100 + Math.floor(Math.random() * 800); ; candidate++) {
    if (await isFree(candidate)) return candidate;
  }
}

function isFree(candidate: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(candidate, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

// ------------------------------------------------------------------------------------------------------- JSON

test('the editor finds no fault in any JSON file, and would find one', async () => {
  const files = await editor.call(async ({ vscode }) => {
    const uris = await vscode.workspace.findFiles('**/*.json', '{node_modules,dist,coverage}/**');
    return uris.map((uri) => vscode.workspace.asRelativePath(uri)).sort();
  });
  const expected = ['.devcontainer/devcontainer.json', '.vscode/launch.json', '.vscode/tasks.json'];
  expect(files).toEqual(expect.arrayContaining([...expected, 'biome.json', 'package.json', 'tsconfig.json']));
  // What only a schema says, where there is one without the network.
  const faults: Record<string, [string, string]> = {
    '.vscode/launch.json': ['"type": "node"', '"type": 1'],
    '.vscode/tasks.json': ['"isBackground": true', '"isBackground": "yes"'],
    'biome.json': ['"lineWidth": 110', '"lineWidth": "110"'],
  };
  await Promise.all(
    files.map(async (file) => {
      const text = readFileSync(join(editor.workspace, file), 'utf8');
      const [right, wrong] = faults[file] ?? [text, `]${text}`];
      const faulty = text.replace(right, wrong);
      expect(faulty).not.toBe(text);
      await show(file, faulty);
      await waitFor(async () => (await faultsOf(file)).length > 0, `a fault in ${file}`, patience);
      await show(file, text);
      await waitFor(async () => (await faultsOf(file)).length === 0, `no fault in ${file}`, patience).catch(
        async (error) => {
          throw new Error(`${file}: ${JSON.stringify(await faultsOf(file))}`, { cause: error });
        },
      );
    }),
  );
});

/** Replaces the text of a file in the editor, without saving it. */
function show(file: string, text: string): Promise<void> {
  return editor.call(
    async ({ vscode }, argument) => {
      const [uri] = await vscode.workspace.findFiles(argument.file);
      const document = await vscode.workspace.openTextDocument(uri as never);
      const edit = new vscode.WorkspaceEdit();
      const end = document.lineAt(document.lineCount - 1).range.end;
      edit.replace(document.uri, new vscode.Range(new vscode.Position(0, 0), end), argument.text);
      await vscode.workspace.applyEdit(edit);
    },
    { file, text },
  );
}

function faultsOf(file: string): Promise<string[]> {
  return editor.call(
    ({ vscode }, name) =>
      vscode.languages
        .getDiagnostics()
        .filter(([uri]) => vscode.workspace.asRelativePath(uri) === name)
        .flatMap(([, diagnostics]) => diagnostics.map(({ message }) => message))
        .filter((message) => !message.startsWith('Unable to load schema')), // without a network: says nothing of the file
    file,
  );
}

// ------------------------------------------------------------------------------------------------------ tasks

for (const name of endingTasks) {
  test(`the task "${name}" ends with 0`, async () => {
    // What the tests say is not the question here: one file of them suffices.
    if (name === 'test') keepOneTest();
    await startTask(name);
    await waitFor(() => editor.call(({ state }) => state.ends.length > 0), `the end of ${name}`, patience);
    expect(await editor.call(({ state }) => state.ends.splice(0))).toEqual([[name, 0]]);
  });
}

test('every task is tried here', async () => {
  const labels = read('.vscode/tasks.json').tasks.map(({ label }: { label: string }) => label);
  expect(labels.sort()).toEqual([...endingTasks, 'dev'].sort());
});

// ------------------------------------------------------------------------------------------------ the dev task

const here = { port: 0, host: '127.0.0.1' };

test('the task "dev" runs on and says when the app serves', async () => {
  await waitFor(() => isFree(9229), "the port of Node's inspector to be free", patience);
  await startTask('dev');
  await waitFor(() => compiled(1), 'the task to be ready', patience);
  expect(await editor.call(({ state }) => state.compiled)).toEqual([false]);
  here.port = port;
  expect((await request(here, '/livez')).body).toBe('alive\n');
});

test('the forwarded port is noticed and labelled, and its preview opens by itself', async () => {
  const { page } = editor;
  await waitFor(
    async () => {
      const preview = page.frames().find((frame) => frame.url().includes(`/proxy/${port}/`));
      return /I've been seen\s+\d+\s+times/.test(
        (await preview?.textContent('main', { timeout: 1_000 })) ?? '',
      );
    },
    'the preview',
    patience,
  );
  await editor.call(({ vscode }) => vscode.commands.executeCommand('~remote.forwardedPorts.focus'));
  await page.getByText(`${portsAttributes['8080'].label} (${port})`).first().waitFor({ timeout: patience });
  await page.screenshot({ path: 'coverage/editor.png' });
  await editor.call(({ vscode }) => vscode.commands.executeCommand('workbench.action.closeAllEditors'));
});

test('a mistake that is saved is listed as a problem, until it is fixed', async () => {
  // Not open in the editor: of an open file its own TypeScript would report, not the task.
  const file = 'src/app/page.ts';
  const path = join(editor.workspace, file);
  const text = readFileSync(path, 'utf8');
  writeFileSync(path, `${text}export const mistake: number = 'text';\n`);
  await waitFor(() => compiled(2), 'the mistake to be compiled', patience);
  await waitFor(async () => (await faultsOf(file)).length > 0, 'the problem', patience);
  writeFileSync(path, text);
  await waitFor(() => compiled(3), 'the fixed file to be compiled', patience);
  await waitFor(async () => (await faultsOf(file)).length === 0, 'no problem', patience);
  expect(await editor.call(({ state }) => state.compiled)).toEqual([false, true, false]);
});

/** A fast test, which the task "test" runs and the debugger stops in. */
const oneTest = 'test/server/env.test.ts';

function keepOneTest(): void {
  for (const folder of ['test/app', 'test/server', 'test/nginx']) {
    for (const file of readdirSync(join(editor.workspace, folder), { recursive: true, encoding: 'utf8' })) {
      const path = join(folder, file);
      if (path.endsWith('.test.ts') && path !== oneTest) rmSync(join(editor.workspace, path));
    }
  }
}

function compiled(times: number): Promise<boolean> {
  return editor.call(({ state }, wanted) => state.compiled.length >= wanted, times);
}

function save(file: string): Promise<boolean> {
  return editor.call(async ({ vscode }, name) => {
    const [uri] = await vscode.workspace.findFiles(name);
    return (await vscode.workspace.openTextDocument(uri as never)).save();
  }, file);
}

/** Starts a task of tasks.json as the command "Run Task" does. */
function startTask(name: string): Promise<void> {
  return editor.call(async ({ vscode, state }, wanted) => {
    const tasks = await vscode.tasks.fetchTasks();
    const task = tasks.find(
      (candidate: Task) => candidate.source === 'Workspace' && candidate.name === wanted,
    );
    if (!task) throw new Error(`no task ${wanted}`);
    state.execution = await vscode.tasks.executeTask(task);
  }, name);
}

// --------------------------------------------------------------------------------------------------- debugging

/** The process id of the primary that runs in the editor's copy. */
function primary(): Promise<number> {
  return waitFor(
    () => [...processesIn(editor.workspace)].find(([, title]) => title.startsWith('app: primary'))?.[0],
    'a primary',
    patience,
  );
}

/** The workers of a primary; the debugger's own helper is a child of what it has launched, too. */
function workersOf(parent: number): number[] {
  const inWorkspace = processesIn(editor.workspace);
  return childrenOf(parent).filter((pid) => inWorkspace.get(pid)?.startsWith('app: worker'));
}

function startDebugging(configuration: string): Promise<void> {
  return editor.call(async ({ vscode, state }, name) => {
    state.stops.length = 0;
    const started = await vscode.debug.startDebugging(vscode.workspace.workspaceFolders?.[0], name);
    if (!started) throw new Error(`${name} was not started`);
  }, configuration);
}

/** What the toolbar offers: to leave what was attached to, to end what was launched. */
async function stopDebugging(how: 'disconnect' | 'stop'): Promise<void> {
  await editor.call(
    ({ vscode }, name) => vscode.commands.executeCommand(`workbench.action.debug.${name}`),
    how,
  );
  await waitFor(
    () => editor.call(({ state }) => state.sessions.size === 0),
    'the debugger to leave',
    patience,
  );
}

/** Sets the one breakpoint there is, in the line with this text; returns the number of the line, from 1. */
async function setBreakpoint(file: string, text: string): Promise<number> {
  const lines = readFileSync(join(editor.workspace, file), 'utf8').split('\n');
  const line = lines.findIndex((candidate) => candidate.includes(text));
  expect(line).not.toBe(-1);
  await editor.call(
    async ({ vscode }, argument) => {
      vscode.debug.removeBreakpoints(vscode.debug.breakpoints);
      const [uri] = await vscode.workspace.findFiles(argument.file);
      const place = new vscode.Location(uri as never, new vscode.Position(argument.line, 0));
      vscode.debug.addBreakpoints([new vscode.SourceBreakpoint(place)]);
    },
    { file, line },
  );
  return line + 1;
}

/** The processes that the debugger has found and in which the breakpoint is set. */
function breakpointIsIn(): Promise<number[]> {
  return editor.call(async ({ vscode, state }) => {
    const [breakpoint] = vscode.debug.breakpoints;
    const pids: number[] = [];
    for (const session of state.sessions.values()) {
      const pid = /\[(\d+)\]$/.exec(session.name)?.[1];
      const known = await session.getDebugProtocolBreakpoint(breakpoint);
      if (pid && (known as { verified?: boolean } | undefined)?.verified) pids.push(Number(pid));
    }
    return pids;
  });
}

interface Stop {
  file: string;
  line: number;
  pid: number;
}

/** What the debugger shows of the stop with this number, from 0. */
async function stopNumber(index: number): Promise<Stop> {
  await waitFor(
    () => editor.call(({ state }, wanted) => state.stops.length > wanted, index),
    `stop ${index + 1} at a breakpoint`,
    patience,
  );
  return editor.call(async ({ vscode, state }, wanted) => {
    const { session, thread } = state.stops[wanted];
    const ask = (command: string, argument: object) =>
      state.sessions.get(session).customRequest(command, argument);
    const [frame] = (await ask('stackTrace', { threadId: thread, levels: 1 })).stackFrames;
    const { result } = await ask('evaluate', { expression: 'process.pid', frameId: frame.id });
    const file = vscode.workspace.asRelativePath(vscode.Uri.parse(frame.source.path).path);
    return { file, line: frame.line, pid: Number(result) };
  }, index);
}

function goOn(): Promise<void> {
  return editor.call(async ({ state }) => {
    for (const { session, thread } of state.stops.splice(0)) {
      await state.sessions.get(session)?.customRequest('continue', { threadId: thread });
    }
  });
}

/**
 * One visit after the other is held at the breakpoint, until each worker holds one: a worker that stands still takes
 * no other. Then all go on and are answered.
 */
async function expectStopInEachWorker(to: typeof here, line: number): Promise<number[]> {
  const workers = await waitFor(
    async () => {
      const pids = workersOf(await primary());
      const ready = await breakpointIsIn();
      return pids.length === 2 && pids.every((pid) => ready.includes(pid)) && pids;
    },
    'the breakpoint to be set in both workers',
    patience,
  );
  const visits = [];
  const stops: Stop[] = [];
  for (const index of workers.keys()) {
    visits.push(request(to, '/', { timeout: patience }));
    stops.push(await stopNumber(index));
  }
  const ascending = (a: number, b: number) => a - b;
  expect(stops.map(({ pid }) => pid).sort(ascending)).toEqual(workers.sort(ascending));
  for (const stop of stops) expect(stop).toMatchObject({ file: 'src/app/routes.ts', line });
  await goOn();
  for (const { status, headers } of await Promise.all(visits)) {
    expect(status).toBe(200);
    expect(workers).toContain(Number(String(headers['x-worker']).split(':')[1]));
  }
  return workers;
}

async function waitForOthers(old: number[], wanted = 2): Promise<void> {
  const parent = await primary();
  await waitFor(
    () => {
      const pids = workersOf(parent);
      return pids.length === wanted && !pids.some((pid) => old.includes(pid));
    },
    'the old workers to be replaced',
    patience,
  );
}

const visit = 'await counter.visit(';
let line: number;

test('attached to the primary alone, a breakpoint in TypeScript stops in each worker', async () => {
  line = await setBreakpoint('src/app/routes.ts', visit);
  await startDebugging('attach');
  await expectStopInEachWorker(here, line);
});

test('attached, it still does after SIGHUP', async () => {
  const old = workersOf(await primary());
  process.kill(await primary(), 'SIGHUP');
  await waitForOthers(old);
  await expectStopInEachWorker(here, line);
});

test('attached, it still does after a file was saved, in which the line has moved', async () => {
  const old = workersOf(await primary());
  const file = 'src/app/routes.ts';
  await show(file, `// A line more.\n${readFileSync(join(editor.workspace, file), 'utf8')}`);
  await save(file);
  await waitForOthers(old);
  line = await setBreakpoint(file, visit);
  await expectStopInEachWorker(here, line);
});

test('attached, it still does after a worker was killed and replaced', async () => {
  const [victim, other] = workersOf(await primary());
  killIfRunning(victim as number, 'SIGKILL');
  await waitFor(
    async () => {
      const pids = workersOf(await primary());
      return pids.length === 2 && !pids.includes(victim as number);
    },
    'a replacement',
    patience,
  );
  expect(await expectStopInEachWorker(here, line)).toContain(other);
});

test('a worker that is held at a breakpoint holds up neither visits nor a reload, and does not stay', async () => {
  const old = workersOf(await primary());
  const held = request(here, '/', { timeout: patience });
  held.catch(() => {}); // it is cut off
  const { pid } = await stopNumber(0);
  expect(Number(String((await request(here, '/livez')).headers['x-worker']).split(':')[1])).not.toBe(pid);
  process.kill(await primary(), 'SIGHUP');
  await waitFor(
    async () => {
      const { headers } = await request(here, '/livez');
      return !old.includes(Number(String(headers['x-worker']).split(':')[1]));
    },
    'a successor to answer',
    patience,
  );
  await waitForOthers(old);
  await expect(held).rejects.toThrow();
  await editor.call(({ state }) => {
    state.stops.length = 0;
  });
  await expectStopInEachWorker(here, line);
});

test('a debugger that is detached leaves the app, its workers, and their replacement as they were', async () => {
  const parent = await primary();
  const workers = workersOf(parent);
  await stopDebugging('disconnect');
  for (const _ of workers) expect((await request(here)).status).toBe(200);
  expect(workersOf(parent)).toEqual(workers);
  process.kill(parent, 'SIGHUP');
  await waitForOthers(workers);
  const [victim] = workersOf(parent);
  killIfRunning(victim as number, 'SIGKILL');
  await waitFor(
    () => workersOf(parent).length === 2 && !workersOf(parent).includes(victim as number),
    'a replacement',
    patience,
  );
  expect((await request(here)).status).toBe(200);
  expect(await primary()).toBe(parent);
});

test('the task "dev" is terminated with all that it has started', async () => {
  await editor.call(({ state }) => (state.execution as TaskExecution).terminate());
  await waitFor(() => isFree(port), 'the port to be free', patience);
  await waitFor(
    () =>
      ![...processesIn(editor.workspace).values()].some((title) => /app: |nodemon|concurrently/.test(title)),
    'its processes to end',
    patience,
  );
  await waitFor(() => isFree(9229), "the port of Node's inspector to be free", patience);
});

test('launched, a breakpoint in TypeScript stops in each worker, after a reload and a death too', async () => {
  const [host, digits] = launchedAt.split(':') as [string, string];
  const to = { host, port: Number(digits) };
  await waitFor(() => isFree(to.port), `port ${to.port} to be free`, patience);
  line = await setBreakpoint('src/app/routes.ts', visit);
  await startDebugging('launch');
  await waitFor(() => request(to, '/livez'), 'the app to serve', patience);
  const workers = await expectStopInEachWorker(to, line);
  const parent = await primary();
  process.kill(parent, 'SIGHUP');
  await waitForOthers(workers);
  const [victim] = await expectStopInEachWorker(to, line);
  killIfRunning(victim as number, 'SIGKILL');
  await waitFor(() => !workersOf(parent).includes(victim as number), 'the death', patience);
  await expectStopInEachWorker(to, line);
  await stopDebugging('stop');
  await waitFor(() => isFree(to.port), 'the app to stop', patience);
  expect([...processesIn(editor.workspace).values()].filter((title) => title.startsWith('app: '))).toEqual(
    [],
  );
});

// ------------------------------------------------------------------------------------------------------- tests

test('a test is debugged from its file', async () => {
  await editor.call(async ({ vscode }, name) => {
    const [uri] = await vscode.workspace.findFiles(name);
    await vscode.window.showTextDocument(uri as never);
  }, oneTest);
  const inEnv = await setBreakpoint('src/server/env.ts', 'throw new ConfigError(');
  await startDebugging('test file');
  expect(await stopNumber(0)).toMatchObject({ file: 'src/server/env.ts', line: inEnv });
  await stopDebugging('stop');
});
