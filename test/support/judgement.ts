/**
 * All that the kept tests know of the app under test: what the load asks, whether the answers are right, and what the
 * service needs beside it.
 */
import { startBacking } from '../app/backing.ts';
import { judge, visit as sample } from '../app/visit.ts';

export { judge, sample, startBacking };
