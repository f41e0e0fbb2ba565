/** TLS to a Redis whose certificate is of a CA of its own. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startApp } from '../support/app.ts';
import { stopAll, temporaryDirectory } from '../support/processes.ts';
import { startRedis } from '../support/redis.ts';
import { freePort, request } from '../support/requests.ts';
import { waitFor } from '../support/wait.ts';

const folder = temporaryDirectory();
const [ca, caKey, signing, certificate, key] = ['ca', 'ca-key', 'signing', 'certificate', 'key'].map((name) =>
  join(folder, `${name}.pem`),
) as [string, string, string, string, string];
let url: string;

beforeAll(async () => {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...newKey, '-subj', '/CN=a CA of its own', '-keyout', caKey, '-out', ca);
  openssl('req', ...newKey, '-subj', '/CN=redis', '-keyout', key, '-out', signing);
  writeFileSync(join(folder, 'names'), 'subjectAltName=IP:127.0.0.1\n');
  const signedBy = ['-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-extfile', join(folder, 'names')];
  openssl('x509', '-req', '-in', signing, ...signedBy, '-out', certificate);
  const port = await freePort();
  const files = ['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-auth-clients', 'no'];
  await startRedis({ args: ['--tls-port', String(port), ...files] });
  url = `rediss://127.0.0.1:${port}`;
});
afterAll(stopAll);

test('the service that knows the CA counts there', async () => {
  const { address } = await startApp({ env: { REDIS_URL: url, NODE_EXTRA_CA_CERTS: ca } });
  await waitFor(async () => (await request(address, '/readyz')).status === 200, 'the service to be ready');
  expect((await request(address, '/', { headers: { accept: 'application/json' } })).status).toBe(200);
});

test('one that does not know it talks to nobody, and says why', async () => {
  const app = await startApp({ env: { REDIS_URL: url } });
  const { err } = await app.waitForLog(/^Redis is away/);
  expect(err).toMatchObject({ message: expect.stringContaining('certificate') });
  expect((await request(app.address, '/readyz')).status).toBe(503);
});
