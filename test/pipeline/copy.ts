import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './workflow.ts';

export interface Run {
  green: boolean;
  log: string;
  /** How each job that ran has ended, by its name. */
  jobs: Record<string, string>;
}

export const testThatExpects = (number: number) =>
  `import { expect, test } from '@jest/globals';\n\ntest('one', () => expect(1).toBe(${number}));\n`;

/** The repository as it lies here, under another name, to be broken and pushed at will. */
export class Copy {
  readonly folder = mkdtempSync(join(tmpdir(), 'pipeline-'));
  readonly #env: NodeJS.ProcessEnv;

  constructor(registry: string, origin = 'https://github.com/Some-Owner/Some-Repository.git') {
    this.#env = { ...process.env, REGISTRY: registry, LINT_TOOLS: process.env.LINT_TOOLS };
    const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
      cwd: root,
    });
    const archive = execFileSync('tar', ['--create', '--null', '--files-from=-'], {
      cwd: root,
      input: files,
      maxBuffer: 1 << 28,
    });
    execFileSync('tar', ['--extract'], { cwd: this.folder, input: archive });
    this.git('init', '--quiet', '--initial-branch', 'main');
    this.git('remote', 'add', 'origin', origin);
    this.git('add', '--all');
    this.commit();
  }

  git(...args: string[]): string {
    const author = ['-c', 'user.name=test', '-c', 'user.email=test@localhost', '-c', 'commit.gpgsign=false'];
    return execFileSync('git', [...author, ...args], { cwd: this.folder, encoding: 'utf8' }).trim();
  }

  /** Commits whatever has changed and returns the commit. */
  commit(): string {
    this.git('commit', '--quiet', '--all', '--allow-empty', '--message', 'change');
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

  /** For scenarios that end with the images: one test that passes, and a dev container of nothing but Node. */
  shorten(): this {
    for (const folder of ['test/unit', 'test/service'])
      rmSync(join(this.folder, folder), { recursive: true });
    mkdirSync(join(this.folder, 'test/unit'));
    this.write('test/unit/one.test.ts', testThatExpects(1));
    this.write('.devcontainer/devcontainer.json', '{ "image": "node:26-trixie-slim" }\n');
    return this;
  }

  /** For scenarios that never come to an image: no dependency but the dev container's client, nothing to test. */
  hollow(): this {
    this.shorten().edit('package.json', (text) => {
      const { jest, dependencies, ...manifest } = JSON.parse(text);
      const { '@devcontainers/cli': cli } = manifest.devDependencies;
      const start =
        "require('http').createServer((_, answer) => answer.end()).listen(process.env.LISTEN || 8080)";
      const { lint, pipeline, ci } = manifest.scripts;
      manifest.scripts = { lint, pipeline, ci, check: 'true', test: 'true', start: `node -e "${start}"` };
      manifest.devDependencies = { '@devcontainers/cli': cli };
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
      env: this.#env,
    });
    let log = '';
    child.stdout.on('data', (chunk) => (log += chunk));
    child.stderr.on('data', (chunk) => (log += chunk));
    return new Promise((resolve) =>
      child.on('close', (code) => {
        const table = log
          .slice(log.lastIndexOf('\n\n'))
          .matchAll(/ s {2}(\S+) (succeeded|failed|cut off)$/gm);
        resolve({
          green: code === 0,
          log,
          jobs: Object.fromEntries([...table].map(([, job, end]) => [job, end])),
        });
      }),
    );
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
