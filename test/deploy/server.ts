/** A server for deployments: an SSH daemon on this machine, with keys of its own, before this machine's engine. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { atEnd, childrenOf, killIfRunning, startProcess, temporaryDirectory } from '../support/processes.ts';
import { freePort } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

export interface Server {
  /** ssh://USER@127.0.0.1:PORT */
  target: string;
  /** The private key that it lets in. */
  key: string;
  /** Its own public keys, as known_hosts has them. */
  knownHosts: string;
  /** Ends every connection that there is, on the server's side, without a word. */
  cut(): void;
  /** Where a connection that has logged in starts. */
  home: string;
}

export async function startServer(): Promise<Server> {
  const directory = temporaryDirectory();
  const at = (name: string) => join(directory, name);
  for (const name of ['host', 'user'])
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', at(name)]);
  const port = await freePort();
  writeFileSync(
    at('config'),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${at('host')}`,
      `AuthorizedKeysFile ${at('user.pub')}`,
      'PidFile none',
      'StrictModes no', // the key lies in a folder for temporary files
      'UsePAM no',
      'PasswordAuthentication no',
      'MaxSessions 2', // fewer than Compose has at once: the others need connections of their own
    ].join('\n'),
  );
  if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true }); // Debian makes it when it starts its own
  // A path that is not absolute is refused by sshd, which starts itself again for each connection.
  const sshd = execFileSync('which', ['sshd'], { encoding: 'utf8' }).trim();
  const daemon = startProcess(sshd, ['-D', '-e', '-f', at('config')]);
  atEnd(async () => {
    daemon.kill('SIGTERM');
    await daemon.exited;
  });
  await waitFor(async () => /listening on/.test(daemon.output()), 'sshd to listen', 10_000);
  return {
    target: `ssh://${userInfo().username}@127.0.0.1:${port}`,
    key: readFileSync(at('user'), 'utf8'),
    knownHosts: `[127.0.0.1]:${port} ${readFileSync(at('host.pub'), 'utf8')}`,
    cut() {
      for (const connection of childrenOf(daemon.pid)) {
        for (const session of [...childrenOf(connection), connection]) killIfRunning(session, 'SIGKILL');
      }
    },
    home: homedir(),
  };
}
