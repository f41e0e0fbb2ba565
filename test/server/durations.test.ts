import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { settings } from '../../src/server/config.ts';
import { readyTimeout } from '../../src/server/http-app.ts';
import { idleCloseDelay, keepAliveTimeout, requestTimeout } from '../../src/server/http-server.ts';
import { deadlineMargin, deduplicationWindow, retryBudget } from '../../src/server/retry.ts';
import { bootTimeout } from '../../src/server/supervisor.ts';
import { maxHeartbeatInterval } from '../../src/server/worker.ts';
import { parseDuration } from '../support/durations.ts';

const read = (path: string) => readFileSync(path, 'utf8');
const nginx = read('deploy/nginx.conf').replaceAll(/#.*$/gm, '');
const [upstream = ''] = /upstream app \{[^}]*\}/.exec(nginx) ?? [];
const [privatePort = ''] = /listen 8081;[\s\S]*/.exec(nginx) ?? [];
const publicPort = nginx.replace(upstream, '').replace(privatePort, '');
const supervisord = read('deploy/supervisord.conf');
const compose = parse(read('docker-compose.yml'), { merge: true });

/** Milliseconds; a directive of 0 means not at all. */
const directive = (name: string, text = publicPort) =>
  parseDuration(new RegExp(`\\b${name} ([1-9]\\w*);`).exec(text)?.[1]);
const seconds = (pattern: RegExp, text: string) => parseDuration(`${pattern.exec(text)?.[1]}s`);

const WORKER_TIMEOUT = settings.workerTimeout.parse(settings.workerTimeout.default);
const GRACEFUL_TIMEOUT = settings.gracefulTimeout.parse(settings.gracefulTimeout.default);
const worker_shutdown_timeout = directive('worker_shutdown_timeout');
const keepalive_min_timeout = directive('keepalive_min_timeout', read('deploy/nginx/keepalive.conf'));
const keepalive_timeout = directive('keepalive_timeout', upstream);
const proxy_read_timeout = directive('proxy_read_timeout');
const proxy_next_upstream_timeout = directive('proxy_next_upstream_timeout');
const proxy_read_timeout_private = directive('proxy_read_timeout', privatePort);
const stop_grace_period = parseDuration(compose.services.app.stop_grace_period);
const app_stopwaitsecs = seconds(/program:app\][^[]*stopwaitsecs=(\d+)/, supervisord);
const nginx_stopwaitsecs = seconds(/program:nginx\][^[]*stopwaitsecs=(\d+)/, supervisord);
const healthcheck_timeout = parseDuration(/--timeout=(\S+)/.exec(read('deploy/Dockerfile'))?.[1]);
const rollout_TIMEOUT = seconds(/\$\{TIMEOUT:-(\d+)\}/, read('deploy/rollout'));

/** A timeout is right only in relation to others: who waits for somebody must wait longer than that one does in turn. */
const relations: [shorter: Record<string, number>, longer: Record<string, number>, orElse: string][] = [
  [{ deadlineMargin }, { retryBudget }, 'no time is left for a first attempt'],
  [{ retryBudget }, { proxy_read_timeout }, 'nginx sends a request again that is still being tried'],
  [
    { proxy_read_timeout },
    { proxy_next_upstream_timeout },
    'a hanging worker leaves no time for another one',
  ],
  [
    { proxy_next_upstream_timeout, proxy_read_timeout },
    { deduplicationWindow },
    'the last try of a request is taken for a new one',
  ],
  [{ keepalive_timeout }, { idleCloseDelay }, 'a request meets a closing connection'],
  [{ keepalive_timeout }, { keepAliveTimeout }, 'a request meets a closing connection'],
  [{ requestTimeout }, { GRACEFUL_TIMEOUT }, 'half a request makes a stop end by force'],
  [{ GRACEFUL_TIMEOUT }, { worker_shutdown_timeout }, 'nginx cuts what the service would still answer'],
  [{ GRACEFUL_TIMEOUT }, { app_stopwaitsecs }, 'supervisord kills what would still be answered'],
  [{ worker_shutdown_timeout }, { stop_grace_period }, 'Docker kills nginx in the middle of its answers'],
  [{ worker_shutdown_timeout }, { nginx_stopwaitsecs }, 'supervisord does'],
  [
    { keepalive_min_timeout },
    { worker_shutdown_timeout },
    'nginx cuts connections that it would still close by an answer',
  ],
  [
    { 'four heartbeats': 4 * maxHeartbeatInterval },
    { WORKER_TIMEOUT },
    'a worker is killed for one late heartbeat',
  ],
  [{ readyTimeout }, { proxy_read_timeout_private }, "a probe gets nginx' 504 in place of the reason"],
  [{ readyTimeout }, { healthcheck_timeout }, 'a health check gives up before it has an answer'],
  [{ bootTimeout }, { rollout_TIMEOUT }, 'a roll-out gives up on a worker that is still tried'],
];

test.each(relations)('%j is less than %j milliseconds, or else %s', (shorter, longer) => {
  const total = (sum: Record<string, number>) => Object.values(sum).reduce((a, b) => a + b);
  expect(total(shorter)).toBeGreaterThan(0);
  expect(total(shorter)).toBeLessThan(total(longer));
});

test('every container has the same time to stop, and the app in it as much as by default', () => {
  for (const service of Object.values<{ stop_grace_period: string }>(compose.services)) {
    expect(service.stop_grace_period).toBe(compose.services.app.stop_grace_period);
  }
  const { GRACEFUL_TIMEOUT = settings.gracefulTimeout.default } = compose.services.app.environment;
  expect(String(GRACEFUL_TIMEOUT)).toBe(settings.gracefulTimeout.default);
});
