import type Router from '@koa/router';
import { openPolls } from './polls.ts';
import { createRoutes } from './routes.ts';
import type { appSettings } from './settings.ts';

// The types of src/app/service.ts stand here, as they are.

export async function openService(context: Context): Promise<Service> {
  const polls = await openPolls(context);
  const { router, endStreams } = createRoutes(polls);
  return { router, ready: polls.ready, drain: endStreams, close: polls.close };
}
