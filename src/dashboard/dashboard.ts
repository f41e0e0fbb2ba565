/** The dashboard of a service: the only file of this folder that the server knows, but for history.ts in the primary. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Router from '@koa/router';
import { send } from '@koa/send';
import type { Context, Middleware } from 'koa';
import type { Context as ServiceContext, Viewer } from '../contract.ts';
import type { LivePlot, Plot, Plots } from '../plots.ts';
import { createDoor, type DoorSettings } from './door.ts';
import { type DrawnPlot, Figures, type Format } from './figures.ts';
import { openPrimaryHistory, openRedisHistory } from './history.ts';
import { Live, overlap, startReporting } from './live.ts';
import { dashboardPage } from './page.ts';
import type { Frame, Hello, PageOfPlots } from './wire.ts';

const code = fileURLToPath(new URL('..', import.meta.url)); // dist, or in development src
const files = fileURLToPath(new URL('../../dist/dashboard/static', import.meta.url)); // made by `npm run bundle`
const forEver = 365 * 24 * 3_600_000;

export interface Dashboard {
  router: Router;
  /** Writes what is left to report. To be called before the service is closed. */
  close(): Promise<void>;
}

interface Options extends Pick<ServiceContext, 'log' | 'primary' | 'stream'> {
  /** Where the workers are replaced after each save, what the figures throw is shown. */
  config: DoorSettings & { reload?: string | undefined };
}

/** @throws if the table of figures is wrong. */
export function openDashboard({ figures: plots, redis }: Plots, options: Options): Dashboard {
  checkTable(plots);
  const { config, log, primary, stream } = options;
  const router = new Router({ strict: true, sensitive: true });
  const door = createDoor(config);
  if (config.dashboard === 'closed') {
    router.get(['/dashboard', '/dashboard/'], door);
    return { router, async close() {} };
  }
  const version = hashOfCode();
  const history = redis ? openRedisHistory(redis) : openPrimaryHistory(primary);
  const livePlots = plots.filter((plot) => plot.kind === 'live');
  const live = new Live({ history, version });
  const stop = livePlots.length > 0 ? startReporting(livePlots, { history, version, log }) : async () => {};
  const names = existsSync(files) ? readdirSync(files).filter((name) => /\.(js|css)$/.test(name)) : [];
  router.get('/dashboard/static/:file', (ctx) =>
    send(ctx, String(ctx.params.file), { root: files, maxAge: forEver, immutable: true }).then(() => {}),
  );
  router.get('/dashboard', door, (ctx) => {
    ctx.set('Cache-Control', 'no-cache');
    ctx.type = 'html';
    ctx.body = dashboardPage(names);
  });
  router.get('/dashboard/', door, (ctx) => ctx.redirect('../dashboard')); // the page's links are relative
  const computed = new Figures({ live, log, development: config.reload !== undefined });
  router.get('/dashboard/plots.json', door, async (ctx) => {
    ctx.set('Cache-Control', 'no-store');
    const instance = redis ? 'all' : 'this';
    ctx.body = { version, instance, plots: await computed.describe(plots) } satisfies PageOfPlots;
  });
  const broadcast = createBroadcast(livePlots, live, version);
  router.get('/dashboard/events', door, (ctx) => {
    const viewer = stream(ctx);
    if (viewer) broadcast(viewer);
  });
  router.get('/dashboard/figures/:file', door, answerFigure(plots, computed));
  return { router, close: stop };
}

/** `figures/NAME.json`, `NAME.csv` and `NAME.rows.json`. */
function answerFigure(plots: Plot[], figures: Figures): Middleware {
  const byName = new Map(
    plots.flatMap((plot) => (plot.kind === 'heading' ? [] : [[plot.name, plot] as const])),
  );
  return async (ctx: Context) => {
    const [, name = '', format] = /^(.+?)\.(json|csv|rows\.json)$/.exec(String(ctx.params.file)) ?? [];
    const plot = byName.get(name);
    if (!plot || !format) return;
    ctx.set('Cache-Control', 'no-cache');
    await sendFigure(ctx, figures, plot, format as Format).catch((error) => {
      const { status, headers, body } = figures.refuse(plot, error, ctx.state.requestId);
      ctx.set(headers);
      ctx.status = status;
      ctx.body = body;
    });
  };
}

async function sendFigure(ctx: Context, figures: Figures, plot: DrawnPlot, format: Format): Promise<void> {
  const { body, etag } = await figures.answer(plot, new URLSearchParams(ctx.querystring), format);
  ctx.status = 200;
  ctx.set('ETag', etag);
  if (format !== 'json') ctx.attachment(`${plot.name}.${format}`);
  ctx.type = format === 'csv' ? 'csv' : 'json';
  if (ctx.fresh) ctx.status = 304;
  else ctx.body = body;
}

/** Sends a frame each second, while somebody looks. */
function createBroadcast(plots: LivePlot[], live: Live, version: string): (viewer: Viewer) => void {
  const viewers = new Set<Viewer>();
  const hello = { event: 'hello', data: { version } satisfies Hello };
  let timer: NodeJS.Timeout | undefined;

  function read(): Frame {
    const second = live.complete;
    const figures: Frame['live'] = {};
    for (const plot of plots) {
      try {
        figures[plot.name] = live.rows(plot, second - overlap).columns;
      } catch {
        // Whoever fetches the figure learns why.
      }
    }
    return { second, live: figures };
  }
  async function show(): Promise<void> {
    if (viewers.size === 0) {
      clearInterval(timer);
      timer = undefined;
      return;
    }
    const frame = await (plots.length > 0 ? live.update() : Promise.resolve()).then(
      () => ({ data: read() }),
      () => ({ event: 'away', data: {} }),
    );
    for (const viewer of viewers) if (viewer.ready()) viewer.send(frame);
  }
  return (viewer) => {
    viewers.add(viewer);
    viewer.closed.then(() => viewers.delete(viewer));
    viewer.send(hello);
    timer ??= setInterval(show, 1_000);
  };
}

/** The same at all workers and after a restart, unless the code is another. */
function hashOfCode(): string {
  const hash = createHash('sha256');
  const names = readdirSync(code, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.(js|ts|css)$/.test(name),
  );
  for (const name of names.sort()) hash.update(name).update(readFileSync(`${code}/${name}`));
  return hash.digest('base64url').slice(0, 16);
}

/** @throws naming what is wrong, and what would be right. */
function checkTable(plots: Plot[]): void {
  const names = new Set<string>();
  const types = new Map<string, string>();
  for (const plot of plots) {
    if (plot.kind === 'heading') continue;
    const { name, controls } = plot;
    if (!/^[a-z0-9-]+$/.test(name)) {
      throw new Error(
        `a plot is named ${JSON.stringify(name)}; right would be lower-case letters, digits and hyphens`,
      );
    }
    if (names.has(name)) throw new Error(`two plots are named ${name}; right would be a name for each`);
    names.add(name);
    for (const [control, { type, value, min = -Infinity, max = Infinity }] of Object.entries(controls)) {
      if (typeof value === 'number' && !(value >= Number(min) && value <= Number(max))) {
        throw new Error(`${control} of ${name} is ${value}; right would be a number from ${min} to ${max}`);
      }
      if (control === 'points') throw new Error(`a control of ${name} is named points, which is taken`);
      const other = types.get(control) ?? type;
      if (other !== type) {
        throw new Error(
          `the control ${control} is a ${other} and, in ${name}, a ${type}; right would be one type`,
        );
      }
      types.set(control, type);
    }
  }
}
