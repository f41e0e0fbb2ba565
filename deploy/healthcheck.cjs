// The image's HEALTHCHECK. Until it succeeds for the first time it asks whether this very container could serve a request
// now, as a rollout has to know. After that it asks whether it is alive: hosts that replace unhealthy containers would
// replace all of them while Redis is away, and that does not bring Redis back. During a rollout two containers share one
// socket, so the check compares the container that answers with its own. CommonJS and http.get take a third of the memory
// and time that fetch takes.
const { existsSync, readFileSync, writeFileSync } = require('node:fs');
const { get } = require('node:http');
const { hostname, tmpdir } = require('node:os');
const { join } = require('node:path');

const listen = process.env.LISTEN || process.env.PORT || '8080';
const where = listen.includes('/')
  ? { socketPath: listen }
  : {
      host: listen.replace(/:?\d+$/, '').replace(/[[\]]/g, '') || '127.0.0.1',
      port: listen.match(/\d+$/)?.[0],
    };

// Files outlive a restart of the container. Field 22 of stat is when its first process started (proc(5)).
const start = readFileSync('/proc/1/stat', 'utf8').replace(/.*\) /s, '').split(' ')[19];
const marker = join(tmpdir(), `ready-${start}`);

// The primary process answers `/metrics`, so a worker that answers for a primary that hangs is not taken for a live
// service. At a port there may be no `/metrics`.
const alive = where.socketPath ? '/metrics' : '/livez';
// At a unix socket `/readyz` and `/metrics` are private: the header is what nginx' private port sets.
const path = existsSync(marker) ? alive : '/readyz';
get({ ...where, path, headers: { 'X-Private': '1' } }, (answer) => {
  const [container] = (answer.headers['x-worker'] ?? '').split(':');
  console.log(`${answer.statusCode} from ${container}`);
  const healthy = answer.statusCode === 200 && container === hostname();
  try {
    if (healthy) writeFileSync(marker, '');
  } catch {
    // Nowhere to write: it goes on asking whether it is ready.
  }
  process.exit(healthy ? 0 : 1);
}).on('error', (error) => {
  console.log(error.message);
  process.exit(1);
});
