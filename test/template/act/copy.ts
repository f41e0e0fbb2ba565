import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { cloneWorkingTree, git } from '../../support/repository.ts';

export interface Run {
  green: boolean;
  log: string;
  /** How each job that ran has ended, by its name. */
  jobs: Record<string, string>;
}

/** What `npm test` runs. */
const suites = ['test/app', 'test/server', 'test/nginx'];

/** The only test of a copy that is shortened. */
export const oneTest = 'test/server/one.test.ts';

export const testThatExpects = (number: number) =>
  `import { expect, test } from '@jest/globals';\n\ntest('one', () => expect(1).toBe(${number}));\n`;

/** The repository as it lies here, under another name, to be broken and pushed at will. */
export class Copy {
  readonly folder = mkdtempSync(join(tmpdir(), 'pipeline-'));
  /** Of `npm run ci`. */
  readonly env: NodeJS.ProcessEnv;

  constructor(registry: string, origin = 'https://github.com/Some-Owner/Some-Repository.git') {
    this.env = { ...process.env, REGISTRY: registry };
    cloneWorkingTree(this.folder);
    this.git('remote', 'add', 'origin', origin);
  }

  git(...args: string[]): string {
    return git(this.folder, ...args);
  }

  /** Commits whatever has changed and returns the commit. */
  commit(): string {
    this.git('add', '--all');
    this.git('commit', '--quiet', '--allow-empty', '--message', 'change');
    return this.git('rev-parse', 'HEAD');
  }

  edit(path: string, change: (text: string) => string): void {
    const before = readFileSync(join(this.folder, path), 'utf8');
    const after = change(before);
    if (after === before) throw new Error(`nothing to change in ${path}`);
    writeFileSync(join(this.folder, path), after);
  }

  write(path: string, text: string): void {
    writeFileSync(join(this.folder, path), text);
  }

  /** Keeps one of the suites that start real processes: their time is spent where they are the matter. */
  thin(): this {
    return this.#removeTests('start.test.ts');
  }

  /**
   * For scenarios whose matter is another: one test that passes, a dev container of nothing but Node, and of the
   * packages for development those alone that are needed then.
   */
  shorten(): this {
    this.#removeTests();
    this.write(oneTest, testThatExpects(1));
    this.write('.devcontainer/devcontainer.json', '{ "image": "node:26-trixie-slim" }\n');
    this.edit('test/support/requirements.ts', (text) => text.replace(/^ {2}provide\(.*\n/m, '')); // no Redis, no nginx
    return this.#reduce(
      /^(@devcontainers\/cli|typescript|@types\/(node|koa)|jest|@jest\/globals|@swc\/.*|yaml)$/,
      { check: 'tsc --noEmit' },
    );
  }

  /** Removes what `npm test` runs, but for what is kept; the suites of containers need the files beside it. */
  #removeTests(kept?: string): this {
    for (const suite of suites) {
      for (const path of readdirSync(join(this.folder, suite), { encoding: 'utf8', recursive: true })) {
        if (path.endsWith('.test.ts') && basename(path) !== kept && !path.startsWith('containers')) {
          rmSync(join(this.folder, suite, path));
        }
      }
    }
    return this;
  }

  /** Keeps these packages for development, and changes these scripts. */
  #reduce(kept: RegExp, scripts: Record<string, string>): this {
    this.edit('package.json', (text) => {
      const manifest = JSON.parse(text);
      const packages = Object.entries(manifest.devDependencies).filter(([name]) => kept.test(name));
      manifest.devDependencies = Object.fromEntries(packages);
      Object.assign(manifest.scripts, scripts);
      return `${JSON.stringify(manifest, null, 2)}\n`;
    });
    const quietly = ['--package-lock-only', '--prefer-offline', '--no-audit', '--no-fund'];
    execFileSync('npm', ['install', ...quietly], { cwd: this.folder, stdio: 'pipe' });
    return this;
  }

  /** `npm run ci`, as a person types it. */
  ci(...args: string[]): Promise<Run> {
    const child = spawn('npm', ['run', '--silent', 'ci', '--', ...args], {
      cwd: this.folder,
      env: this.env,
    });
    let log = '';
    child.stdout.on('data', (chunk) => (log += chunk));
    child.stderr.on('data', (chunk) => (log += chunk));
    return new Promise((resolve) =>
      child.on('close', (code) => {
        const jobs: Record<string, string> = {};
        // [WORKFLOW/JOB], or [JOB/WORKFLOW/JOB] of a workflow that a job calls
        for (const [, path = '', end = ''] of log.matchAll(/^\[(.+?) *\].* Job (succeeded|failed)$/gm)) {
          const parts = path.split('/');
          jobs[(parts.length > 2 ? parts[0] : parts[1]) ?? ''] = end;
        }
        resolve({ green: code === 0, log, jobs });
      }),
    );
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
