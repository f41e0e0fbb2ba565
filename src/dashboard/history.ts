/** Where the samples of live figures are kept: in Redis, for all instances, or in the primary, for this one. */
import { answerRequests, type Channel, createRequester } from '../contract.ts';
import type { Plots } from '../plots.ts';

/** Milliseconds. */
export const kept = 15 * 60_000;

export interface Entry {
  /** Ascending. */
  id: string;
  text: string;
}

/** Every worker sees the same. Calls reject while it cannot be reached. */
export interface History {
  append(text: string): Promise<void>;
  /** The entries after this id; all of them after `0`. */
  after(id: string): Promise<Entry[]>;
}

/** A stream of Redis. Its user needs the rights to call XADD and XRANGE. */
export function openRedisHistory({ key, command }: NonNullable<Plots['redis']>): History {
  return {
    async append(text) {
      await command(['XADD', key, 'MINID', '~', String(Date.now() - kept), '*', 'text', text]);
    },
    async after(id) {
      const entries = (await command(['XRANGE', key, `(${id}`, '+'])) as [id: string, fields: string[]][];
      return (entries ?? []).map(([id, [, text = '']]) => ({ id, text }));
    },
  };
}

type Question = { append: string } | { after: string };

/** In the primary: returns what answers one worker. */
export function createPrimaryHistory(): (worker: Channel) => void {
  const entries: (Entry & { at: number })[] = [];
  let last = 0;
  return (worker) =>
    answerRequests<Question, Entry[]>(worker, 'live', (question) => {
      if ('after' in question) {
        const known = entries.findLastIndex(({ id }) => Number(id) <= Number(question.after));
        return entries.slice(known + 1);
      }
      last += 1;
      entries.push({ id: String(last), text: question.append, at: Date.now() });
      while ((entries[0]?.at ?? Date.now()) < Date.now() - kept) entries.shift();
      return [];
    });
}

/** In a worker. */
export function openPrimaryHistory(primary: Channel): History {
  const ask = createRequester<Question, Entry[]>(primary, 'live');
  return {
    async append(text) {
      await ask({ append: text });
    },
    after: (id) => ask({ after: id }),
  };
}
