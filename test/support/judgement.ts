/** What the load asks, and whether the answers are right: only the app under test knows, in the file imported here. */
import { judge, visit as sample } from '../app/visit.ts';

export { judge, sample };
