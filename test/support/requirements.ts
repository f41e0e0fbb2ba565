/**
 * Before the tests: redis-server and nginx, or what else a suite needs. Those on PATH are used. Missing ones are
 * installed on Debian and Ubuntu as root, and where CI is set by sudo; elsewhere the error says what to type.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Asked by Debian before it starts a service that it has installed; 101: do not (invoke-rc.d(8)). */
const policy = '/usr/sbin/policy-rc.d';

export default function provideServices(): void {
  provide({ 'redis-server': 'redis-server', nginx: 'nginx' });
}

/** @param packages for each command that must be there, Debian's package that has it. */
export function provide(packages: Record<string, string>): void {
  // Debian keeps nginx where an ordinary user's PATH does not look.
  process.env.PATH = [process.env.PATH, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);
  const missing = Object.entries(packages).filter(([command]) => !isOnPath(command));
  if (missing.length === 0) return;
  const commands = missing.map(([command]) => command).join(' and ');
  const names = missing.map(([, name]) => name);
  if (!mayInstall()) {
    throw new Error(
      `the tests need ${commands} on PATH; install ${missing.length > 1 ? 'them' : 'it'}: ` +
        `\`sudo apt-get install ${names.join(' ')}\` (Debian, Ubuntu), \`brew install redis nginx\` (macOS)`,
    );
  }
  process.stdout.write(`${commands} missing: installing ${names.join(' and ')} from the distribution\n`);
  const mayStart = !existsSync(policy);
  if (mayStart) asRoot('sh', '-c', `printf '#!/bin/sh\\nexit 101\\n' >${policy} && chmod 755 ${policy}`);
  try {
    apt('update');
    apt('install', '--yes', '--no-install-recommends', ...names);
  } finally {
    if (mayStart) asRoot('rm', policy);
  }
}

/** A developer's machine is never changed without a word: his sudo may ask for no password, too. */
function mayInstall(): boolean {
  return isOnPath('apt-get') && (process.getuid?.() === 0 || (Boolean(process.env.CI) && asRoot('true')));
}

function isOnPath(command: string): boolean {
  return (process.env.PATH ?? '').split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function apt(...args: string[]): void {
  if (!asRoot('env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', ...args)) {
    throw new Error(`apt-get ${args.join(' ')} failed`);
  }
}

function asRoot(...command: string[]): boolean {
  const [file = '', ...args] = process.getuid?.() === 0 ? command : ['sudo', '--non-interactive', ...command];
  return spawnSync(file, args, { stdio: ['ignore', 'ignore', 'inherit'] }).status === 0;
}
