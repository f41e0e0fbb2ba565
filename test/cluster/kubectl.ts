/** kubectl on the cluster that was named for tests: never on the one that the user happens to work with. */
import { execFile } from 'node:child_process';

export interface Result {
  code: number;
  /** Standard output and standard error. */
  output: string;
}

/** kubectl in one namespace, or in none. */
export function createKubectl(namespace?: string) {
  /** Runs it to its end, whatever its exit code, with something on its standard input. */
  function attempt(args: string[], input = ''): Promise<Result> {
    const { CLUSTER_KUBECONFIG = '', CLUSTER_CONTEXT = '' } = process.env;
    const on = ['--kubeconfig', CLUSTER_KUBECONFIG, '--context', CLUSTER_CONTEXT];
    const where = namespace === undefined ? on : [...on, '--namespace', namespace];
    return new Promise((resolve) => {
      const child = execFile(
        'kubectl',
        [...where, ...args],
        { maxBuffer: 2 ** 26 },
        (error, stdout, stderr) => {
          const code = error ? (typeof error.code === 'number' ? error.code : 1) : 0;
          resolve({ code, output: stdout + stderr });
        },
      );
      child.stdin?.on('error', () => {}); // it did not read
      child.stdin?.end(input);
    });
  }
  /** Runs it, and resolves to what it has written; rejects with that if it fails. */
  async function kubectl(args: string[], input?: string): Promise<string> {
    const { code, output } = await attempt(args, input);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')} ended with ${code}:\n${output}`);
    return output.trim();
  }
  return { attempt, kubectl };
}
