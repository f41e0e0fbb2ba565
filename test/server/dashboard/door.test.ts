import { afterEach, expect, test } from '@jest/globals';
import { createDoor } from '../../../src/dashboard/door.ts';
import { plot } from '../../../src/plots.ts';
import { readConfig } from '../../../src/server/config.ts';
import { stopAll } from '../../support/processes.ts';
import { serve } from './serve.ts';

afterEach(stopAll);

const paths = [
  '',
  '/',
  '/plots.json',
  '/events',
  '/figures/a.json',
  '/figures/a.csv',
  '/figures/a.rows.json',
];
const basic = (text: string) => ({ Authorization: `Basic ${Buffer.from(text).toString('base64')}` });
const right = { dashboard: 'private', dashboardPassword: 'ann:pass:wörd' } as const;

/** Counts how often its rows are asked for. */
function createFigure() {
  const counted = { calls: 0, figures: [plot({ name: 'a', title: '', rows, figure: { mark: 'bar' } })] };
  function rows() {
    counted.calls += 1;
    return [];
  }
  return counted;
}

test('closed: nothing is answered, nothing is computed, and the page says what opens it', async () => {
  const counted = createFigure();
  const { ask } = await serve(counted.figures, { dashboard: 'closed' });
  for (const path of paths) expect([path, (await ask(`/dashboard${path}`)).status]).toEqual([path, 404]);
  expect((await ask('/dashboard')).body).toMatch(/DASHBOARD=open/);
  expect(counted.calls).toBe(0);
});

test('private: without the password every path is answered 401, and nothing is computed', async () => {
  const counted = createFigure();
  const { ask } = await serve(counted.figures, right);
  for (const path of paths) {
    const { status, headers } = await ask(`/dashboard${path}`);
    expect([path, status]).toEqual([path, 401]);
    expect(headers).toMatchObject({ 'www-authenticate': 'Basic realm="dashboard", charset="UTF-8"' });
  }
  expect(counted.calls).toBe(0);
  expect((await ask('/dashboard/figures/a.json', { headers: basic('ann:pass:wörd') })).status).toBe(200);
});

test.each(['ann:pass:word', 'ann:', ':', '', 'ann:pass:wörd ', 'bob:pass:wörd'])(
  'private: %j is wrong',
  async (text) => {
    const { ask } = await serve([], right);
    expect((await ask('/dashboard', { headers: basic(text) })).status).toBe(401);
  },
);

test.each(['Bearer x', 'Basic', 'Basic !!', 'Basic  ', 'basic'])(
  'private: %j is no password',
  async (Authorization) => {
    const { ask } = await serve([], { ...right, dashboardPassword: undefined });
    expect((await ask('/dashboard', { headers: { Authorization } })).status).toBe(401);
  },
);

test('private: after ten wrong passwords a client waits, the right one included, and others do not', async () => {
  const { ask } = await serve([], right);
  const from = (ip: string, text: string) =>
    ask('/dashboard', { headers: { ...basic(text), 'X-Forwarded-For': ip } });
  for (let i = 0; i < 10; i++) expect((await from('192.0.2.1', 'ann:x')).status).toBe(401);
  const { status, headers } = await from('192.0.2.1', right.dashboardPassword);
  expect(status).toBe(429);
  expect(Number(headers['retry-after'])).toBeGreaterThan(50);
  expect((await from('192.0.2.2', right.dashboardPassword)).status).toBe(200);
});

test('private: after a minute a client may try again, and no more than ten thousand are remembered', async () => {
  let now = 0;
  const door = createDoor(right, () => now);
  async function ask(ip: string, text: string): Promise<number> {
    const ctx = { ip, status: 404, set() {}, get: () => basic(text).Authorization };
    await door(ctx as never, async () => {
      ctx.status = 200;
    });
    return ctx.status;
  }
  const { dashboardPassword: password } = right;
  for (let i = 0; i < 10; i++) await ask('first', 'ann:x');
  expect(await ask('first', password)).toBe(429);
  now = 60_001;
  expect(await ask('first', password)).toBe(200);
  for (let i = 0; i < 10; i++) await ask('second', 'ann:x');
  for (let i = 0; i < 9_999; i++) await ask(`client ${i}`, 'ann:x');
  expect(await ask('second', password)).toBe(429);
  await ask('one more', 'ann:x');
  expect(await ask('second', password)).toBe(200);
});

test.each([
  ['true', 'DASHBOARD is "true"; right would be open, which replaces true'],
  ['false', 'DASHBOARD is "false"; right would be closed, which replaces false'],
  ['maybe', 'DASHBOARD is "maybe"; right would be one of closed, open, private'],
  [
    'private',
    'DASHBOARD is "private"; right would be with DASHBOARD_PASSWORD_FILE, a file that has user:password',
  ],
])('DASHBOARD=%s is refused', (DASHBOARD, message) => {
  expect(() => readConfig({ DASHBOARD })).toThrow(message);
});

test('the dashboard is closed by default', () => {
  expect(readConfig({}).dashboard).toBe('closed');
  expect(() => readConfig({ DASHBOARD: 'private', DASHBOARD_PASSWORD: 'ann' })).toThrow(
    'right would be user:password',
  );
  expect(readConfig({ DASHBOARD: 'private', DASHBOARD_PASSWORD: 'ann:x' }).dashboard).toBe('private');
});
