import type Router from '@koa/router';
import { createRoutes } from './routes.ts';
import type { appSettings } from './settings.ts';

// The types of src/app/service.ts stand here, as they are.

export async function openService({ config, log }: Context): Promise<Service> {
  return {
    router: createRoutes(config.precision, log),
    async ready() {},
    drain() {},
    async close() {},
  };
}
