/** Before the tests: an engine, and a server that lets in who has its key. */
import requireEngine from '../containers/requirements.ts';
import { provide } from '../support/requirements.ts';

export default function requireServer(): void {
  requireEngine();
  provide({ sshd: 'openssh-server', flock: 'util-linux', jq: 'jq' });
  process.env.TABLE = 'deploy'; // read by test/support/battery/table.ts
}
