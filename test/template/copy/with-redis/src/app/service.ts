import type { OpenService } from '../contract.ts';
import { openPolls } from './polls.ts';
import { createRoutes } from './routes.ts';
import type { AppConfig } from './settings.ts';

export const openService: OpenService<AppConfig> = async (context) => {
  const polls = await openPolls(context);
  const { router, endStreams } = createRoutes(polls);
  return { router, ready: polls.ready, drain: endStreams, close: polls.close };
};
