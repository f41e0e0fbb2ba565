import { afterEach, expect, test } from '@jest/globals';
import { startApp } from '../support/app.ts';
import { stopAll } from '../support/processes.ts';
import { request } from '../support/requests.ts';

afterEach(stopAll);

test('temperatures are converted, and a body that is none is refused with a reason', async () => {
  const { address, waitForLog } = await startApp({ env: { WEB_CONCURRENCY: '1', PRECISION: '2' } });
  expect(await request(address, '/fahrenheit/36.6')).toMatchObject({
    status: 200,
    body: '{"fahrenheit":97.88}',
  });
  const post = (body: string) => request(address, '/fahrenheit', { method: 'POST', body });
  expect(await post('{"celsius": 100}')).toMatchObject({ status: 200, body: '{"fahrenheit":212}' });
  expect(await waitForLog(/^converted$/)).toMatchObject({ celsius: 100 });
  expect(await post('{"celsius": "hot"}')).toMatchObject({
    status: 400,
    body: expect.stringContaining('NUMBER'),
  });
  expect(await post('{')).toMatchObject({ status: 400, body: 'the body is not JSON' });
});
