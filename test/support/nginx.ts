/** nginx with the deployed configuration, in front of whatever listens on a unix socket. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join, parse } from 'node:path';
import { atEnd, killIfRunning, type Running, root, startProcess, temporaryDirectory } from './processes.ts';
import { type Address, freePort } from './requests.ts';
import { waitFor } from './wait.ts';

export interface Nginx extends Running {
  /** Of the master process. */
  readonly pid: number;
  readonly port: number;
  /** The port that is never published, here a socket: two test files may run at once. */
  readonly private: Address;
  /** The file with the configuration that was substituted. */
  readonly configuration: string;
  /** The lines of the access log. */
  accessLog(): Record<string, string>[];
}

const includes = { app: join(root, 'src/app/*.conf'), frames: '', image: '', proxies: '' };
type Included = keyof typeof includes;

/**
 * deploy/nginx.conf as it is, but for where it listens, where the app is, and where it writes.
 *
 * @throws if the file no longer says what is replaced here.
 */
export function writeNginxConfiguration(to: {
  port: number;
  socketPath: string;
  directory: string;
  /** src/app/static by default. */
  files?: string;
  /** Lines of the access log wait in memory, as in the image. By default a test reads a line as soon as its answer is there. */
  buffered?: boolean;
  /** Files that nginx includes, by the name of their folder below /etc/nginx; by default those of src/app alone. */
  included?: Partial<Record<Included, string>>;
}): string {
  let text = readFileSync(join(root, 'deploy/nginx.conf'), 'utf8');
  function replace(what: string, times: number, by: string): void {
    const parts = text.split(what);
    if (parts.length !== times + 1) {
      throw new Error(`deploy/nginx.conf has ${what} ${parts.length - 1} times, expected ${times}`);
    }
    text = parts.join(by);
  }
  replace('listen 8080 ', 1, `listen ${to.port} `);
  replace('listen 8081;', 1, `listen unix:${to.directory}/private.sock;`);
  const { dir, base } = parse(to.socketPath);
  replace('unix:/run/app/app.sock', 3, `unix:${to.socketPath}`);
  replace('unix:/run/app/./app.sock', 1, `unix:${dir}/./${base}`);
  replace('unix:/run/app/././app.sock', 1, `unix:${dir}/././${base}`);
  replace('root /srv/static;', 1, `root "${to.files ?? join(root, 'src/app/static')}";`); // the path may have spaces
  // Node's pipes are sockets, which cannot be opened by their names in /dev.
  replace('access_log /dev/stdout ', 1, `access_log ${to.directory}/access.log `);
  if (!to.buffered) replace(' buffer=64k flush=1s;', 1, ';');
  replace(' /tmp/nginx', 6, ` ${to.directory}/nginx`);
  for (const [name, usual] of Object.entries(includes)) {
    const path = to.included?.[name as Included] ?? usual;
    replace(`/etc/nginx/${name}/*.conf`, 1, `"${path || `${to.directory}/none/*.conf`}"`);
  }
  const file = join(to.directory, 'nginx.conf');
  writeFileSync(file, text);
  // What it includes by relative paths.
  for (const name of ['mime.types', 'proxy-headers.conf', 'response-headers.conf']) {
    copyFileSync(join(root, 'deploy/nginx', name), join(to.directory, name));
  }
  return file;
}

/** nginx with deploy/nginx.conf in front of the app on the given socket. */
export async function startNginx(
  socketPath: string,
  options: Partial<
    Pick<Parameters<typeof writeNginxConfiguration>[0], 'port' | 'files' | 'included' | 'buffered'>
  > = {},
): Promise<Nginx> {
  const directory = temporaryDirectory();
  const port = options.port ?? (await freePort());
  const configuration = writeNginxConfiguration({ ...options, port, socketPath, directory });
  const nginx = startProcess('nginx', nginxArguments(configuration, directory), { group: true });
  atEnd(async () => {
    killIfRunning(-nginx.pid, 'SIGKILL');
    await nginx.exited;
  });
  await waitFor(() => accepts(port), 'nginx to listen').catch((error) => {
    throw new Error(`nginx did not start:\n${nginx.output()}`, { cause: error });
  });
  return {
    ...nginx,
    port,
    private: { socketPath: join(directory, 'private.sock') },
    configuration,
    accessLog: () =>
      readFileSync(join(directory, 'access.log'), 'utf8')
        .split('\n')
        .filter((line) => line)
        .map((line) => JSON.parse(line)),
  };
}

/** Whether a connection is accepted; nothing is asked on it, so that neither the log nor the app hears of it. */
function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true));
    socket.on('connect', () => socket.destroy());
    socket.on('error', () => resolve(false));
  });
}

/** As root, nginx would run its workers as a user who may not be able to read the repository. */
export function nginxArguments(configuration: string, directory: string): string[] {
  const user = process.getuid?.() === 0 ? ' user root;' : '';
  return ['-c', configuration, '-p', directory, '-e', 'stderr', '-g', `daemon off;${user}`];
}

/** What `nginx -t` says of a configuration. */
export function checkNginx(
  configuration: string,
  directory: string,
): { status: number | null; output: string } {
  const { status, stderr, stdout } = spawnSync('nginx', [...nginxArguments(configuration, directory), '-t'], {
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
}
