/** Who may look: everybody, those who know the password, or nobody. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Middleware } from 'koa';

const maxTries = 10; // wrong ones of a client, at each worker
const period = 60_000; // milliseconds in which they count
const maxClients = 10_000; // that are remembered

export interface DoorSettings {
  dashboard: 'closed' | 'open' | 'private';
  /** `user:password`. An access may read a file. */
  dashboardPassword?: string | undefined;
}

/** Lets those through who may look. A refusal does no more work than to say so. */
export function createDoor(settings: DoorSettings, now: () => number = Date.now): Middleware {
  const wrong = new Map<string, { tries: number; until: number }>(); // by client; the oldest first
  const refuse: Middleware = (ctx) => {
    ctx.status = 404;
    ctx.body = 'The dashboard is closed. DASHBOARD=open in the environment opens it (docs/dashboard.md).\n';
  };
  if (settings.dashboard === 'open') return (_ctx, next) => next();
  if (settings.dashboard === 'closed') return refuse;

  function isRight(authorization: string): boolean {
    const [, code = ''] = /^Basic +([A-Za-z0-9+/=]+)$/i.exec(authorization) ?? [];
    const hash = (text: string) => createHash('sha256').update(text).digest();
    const given = hash(Buffer.from(code, 'base64').toString());
    return timingSafeEqual(given, hash(settings.dashboardPassword ?? '')) && code !== '';
  }
  function countWrong(client: string): void {
    const { tries = 0, until = now() + period } = wrong.get(client) ?? {};
    wrong.set(client, { tries: tries + 1, until });
    for (const [oldest, entry] of wrong) {
      if (entry.until > now() && wrong.size <= maxClients) break;
      wrong.delete(oldest);
    }
  }
  return (ctx, next) => {
    ctx.set('Cache-Control', 'no-store');
    const { tries = 0, until = 0 } = wrong.get(ctx.ip) ?? {};
    if (tries >= maxTries && until > now()) {
      ctx.set('Retry-After', String(Math.ceil((until - now()) / 1_000)));
      ctx.status = 429;
      ctx.body = 'Too many wrong passwords: please wait.\n';
      return;
    }
    const authorization = ctx.get('Authorization');
    if (isRight(authorization)) {
      wrong.delete(ctx.ip);
      return next();
    }
    if (authorization !== '') countWrong(ctx.ip);
    ctx.status = 401;
    ctx.set('WWW-Authenticate', 'Basic realm="dashboard", charset="UTF-8"');
    ctx.body = 'This page needs a user and a password.\n';
  };
}
