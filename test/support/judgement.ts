/**
 * All that the kept tests know of the app under test: what the load asks, whether the answers are right, and what the
 * service needs beside it.
 */
import * as backing from '../app/backing.ts';
import { judge, visit as sample } from '../app/visit.ts';

/** The settings without which the service does not start, in each test that starts it. */
export const required: Record<string, string> = {
  ...(('required' in backing && backing.required) as object),
};
export const { startBacking } = backing;
export { judge, sample };
