import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { settings } from '../../src/server/config.ts';
import { readyTimeout } from '../../src/server/http-app.ts';
import * as httpServer from '../../src/server/http-server.ts';
import * as retry from '../../src/server/retry.ts';
import * as supervisor from '../../src/server/supervisor.ts';
import { maxHeartbeatInterval } from '../../src/server/worker.ts';
import {
  type Place,
  parseDuration,
  readPlaces,
  readRelations,
  readShellSeconds,
  total,
} from '../support/durations.ts';

const nginx = readFileSync('deploy/nginx.conf', 'utf8').replaceAll(/#.*$/gm, '');
const upstream = /upstream app \{[^}]*\}/.exec(nginx)?.[0] ?? '';
const privatePort = /listen 8081;[\s\S]*/.exec(nginx)?.[0] ?? '';
const dockerfile = readFileSync('deploy/Dockerfile', 'utf8');
const supervisord = readFileSync('deploy/supervisord.conf', 'utf8');
const compose = parse(readFileSync('docker-compose.yml', 'utf8'), { merge: true });

/** The value of a directive of nginx that is there once, but for 0: not at all. */
function directive(name: string, text = nginx.replace(upstream, '').replace(privatePort, '')): number {
  const values = [...text.matchAll(new RegExp(`\\b${name} ([1-9]\\w*);`, 'g'))].map(([, value]) => value);
  expect({ name, values }).toEqual({ name, values: [expect.any(String)] });
  return parseDuration(values[0]);
}

/** An option of all health checks of the images, which are alike. */
function healthCheck(option: string): number {
  const values = [...dockerfile.matchAll(new RegExp(`${option}=(\\S+)`, 'g'))].map(([, value]) => value);
  expect(values).toHaveLength(dockerfile.match(/^HEALTHCHECK/gm)?.length as number);
  expect(new Set(values).size).toBe(1);
  return parseDuration(values[0]);
}

function secondsToStop(program: string): number {
  const [section = ''] = new RegExp(`\\[program:${program}\\][^[]*`).exec(supervisord) ?? [];
  return Number(/^stopwaitsecs=(\d+)$/m.exec(section)?.[1]) * 1_000;
}

const fromSetting = ({ parse, default: value }: { parse(text: string): number; default: string }) =>
  parse(value);

/** All that is kept, by the file in which it is written. */
const durations: Record<string, Record<string, number>> = {
  'retry.ts': {
    '`retryBudget`': retry.retryBudget,
    '`deadlineMargin`': retry.deadlineMargin,
    '`initialBackoff`': retry.initialBackoff,
    '`maxBackoff`': retry.maxBackoff,
    '`deduplicationWindow`': retry.deduplicationWindow,
  },
  'http-app.ts': { '`readyTimeout`': readyTimeout },
  'http-server.ts': {
    '`keepAliveTimeout`': httpServer.keepAliveTimeout,
    '`requestTimeout`': httpServer.requestTimeout,
    '`connectionsCheckingInterval`': httpServer.connectionsCheckingInterval,
    '`idleCloseDelay`': httpServer.idleCloseDelay,
  },
  'worker.ts': { '`maxHeartbeatInterval`': maxHeartbeatInterval },
  'config.ts': {
    '`WORKER_TIMEOUT`': fromSetting(settings.workerTimeout),
    '`GRACEFUL_TIMEOUT`': fromSetting(settings.gracefulTimeout),
  },
  'supervisor.ts': {
    '`bootTimeout`': supervisor.bootTimeout,
    '`initialBackoff`': supervisor.initialBackoff,
    '`maxBackoff`': supervisor.maxBackoff,
    '`orphanTimeout`': supervisor.orphanTimeout,
  },
  '': {
    '`worker_shutdown_timeout`': directive('worker_shutdown_timeout'),
    '`keepalive_timeout`': directive('keepalive_timeout'),
    '`keepalive_min_timeout`': directive(
      'keepalive_min_timeout',
      readFileSync('deploy/nginx/keepalive.conf', 'utf8'),
    ),
    '`client_header_timeout`': directive('client_header_timeout'),
    '`client_body_timeout`': directive('client_body_timeout'),
    '`send_timeout`': directive('send_timeout'),
    'upstream `keepalive_timeout`': directive('keepalive_timeout', upstream),
    '`proxy_connect_timeout`': directive('proxy_connect_timeout'),
    '`proxy_send_timeout`': directive('proxy_send_timeout'),
    '`proxy_read_timeout`': directive('proxy_read_timeout'),
    '`proxy_next_upstream_timeout`': directive('proxy_next_upstream_timeout'),
    'private port `proxy_connect_timeout`': directive('proxy_connect_timeout', privatePort),
    'private port `proxy_read_timeout`': directive('proxy_read_timeout', privatePort),
  },
  'docker-compose.yml': { '`stop_grace_period`': parseDuration(compose.services.app.stop_grace_period) },
  'Dockerfile, three times': {
    'health check `--interval`': healthCheck('--interval'),
    'health check `--timeout`': healthCheck('--timeout'),
    'health check `--start-period`': healthCheck('--start-period'),
    'health check `--start-interval`': healthCheck('--start-interval'),
  },
  'supervisord.conf': {
    'app `stopwaitsecs`': secondsToStop('app'),
    'nginx `stopwaitsecs`': secondsToStop('nginx'),
  },
  'the command that runs `single`': {
    '`--stop-timeout`': Number(/--stop-timeout (\d+)/.exec(supervisord)?.[1]) * 1_000,
  },
  'targets/ssh': { '`nginx_timeout`': readShellSeconds('deploy/targets/ssh', 'nginx_timeout') },
  deploy: { '`lock_limit`': readShellSeconds('deploy/deploy', 'lock_limit') },
  rollout: {
    '`TIMEOUT`': Number(/\$\{TIMEOUT:-(\d+)\}/.exec(readFileSync('deploy/rollout', 'utf8'))?.[1]) * 1_000,
  },
};

/** Its row in the page is held against the code by a test of the app's. */
const isOfApp = ({ name }: Place) => name.startsWith('Redis');

test('docs/durations.md was understood', () => {
  expect(readRelations().length).toBeGreaterThan(10);
});

test('docs/durations.md has each duration of what is kept, where it is written, as it is', () => {
  const told = readPlaces()
    .filter((place) => !isOfApp(place))
    .map(({ home, name, milliseconds }) => ({ home, name, milliseconds }));
  const written = Object.entries(durations).flatMap(([home, names]) =>
    Object.entries(names).map(([name, milliseconds]) => ({ home, name, milliseconds })),
  );
  const byName = (a: { home: string; name: string }, b: { home: string; name: string }) =>
    `${a.home} ${a.name}`.localeCompare(`${b.home} ${b.name}`);
  expect(told.toSorted(byName)).toEqual(written.toSorted(byName));
});

const ofApp = new Set(
  readPlaces()
    .filter(isOfApp)
    .map(({ name }) => name),
);

/** What a name of the first table stands for; the table says more than the name where that is not clear. */
function find(name: string): number | undefined {
  const all = Object.values(durations).flatMap((names) => Object.entries(names));
  const bare = /`[^`]+`/.exec(name)?.[0];
  const matches = [name, bare].map((candidate) => all.filter(([known]) => known === candidate));
  return matches.find(({ length }) => length === 1)?.[0]?.[1];
}

test.each(
  readRelations().filter(
    ({ shorter, longer }) => ![...shorter, ...longer].some(({ name }) => ofApp.has(name)),
  ),
)('$row', ({ shorter, longer }) => {
  for (const { name, milliseconds } of [...shorter, ...longer]) {
    expect({ name, milliseconds }).toEqual({ name, milliseconds: find(name) });
  }
  expect(total(shorter)).toBeLessThan(total(longer));
});

test('every container has the same time to stop, and the app in it as much as by default', () => {
  for (const service of Object.values<{ stop_grace_period: string }>(compose.services)) {
    expect(service.stop_grace_period).toBe(compose.services.app.stop_grace_period);
  }
  const { GRACEFUL_TIMEOUT = settings.gracefulTimeout.default } = compose.services.app.environment;
  expect(String(GRACEFUL_TIMEOUT)).toBe(settings.gracefulTimeout.default);
});
