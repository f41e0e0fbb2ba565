import type { OpenService } from '../contract.ts';
import { createRoutes } from './routes.ts';
import type { AppConfig } from './settings.ts';

export const openService: OpenService<AppConfig> = async ({ config, log }) => ({
  router: createRoutes(config.precision, log),
  async ready() {},
  drain() {},
  async close() {},
});
