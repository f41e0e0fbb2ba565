// The image's HEALTHCHECK: a visit to this very container would be counted now. During a rollout two containers share
// one socket, so it matters who answers. CommonJS and http.get: a third of the memory and time that fetch takes.
const { get } = require('node:http');
const { hostname } = require('node:os');

const listen = process.env.LISTEN || '8080';
const where = listen.includes('/')
  ? { socketPath: listen }
  : {
      host: listen.replace(/:?\d+$/, '').replace(/[[\]]/g, '') || '127.0.0.1',
      port: listen.match(/\d+$/)?.[0],
    };

get({ ...where, path: '/readyz' }, (answer) => {
  const [container] = (answer.headers['x-worker'] ?? '').split(':');
  console.log(`${answer.statusCode} from ${container}`);
  process.exit(answer.statusCode === 200 && container === hostname() ? 0 : 1);
}).on('error', (error) => {
  console.log(error.message);
  process.exit(1);
});
