import { countKey, type RedisStore } from '../redis-store.ts';
import { type History, keep, type LogName } from './history.ts';

/** Each log is a stream of Redis, under a key of its own. */
export function openRedisHistory({ command }: RedisStore): History {
  const key = (log: LogName) => `${countKey}:${log}`;
  return {
    async count() {
      return Number(await command((client) => client.get(countKey)));
    },
    async append(log, text, at) {
      const oldest = Date.now() - keep[log];
      const trim = { strategy: 'MINID', strategyModifier: '~', threshold: oldest } as const;
      const id = at === undefined ? '*' : `${at}-0`;
      await command((client) => client.xAdd(key(log), id, { text }, { TRIM: trim })).catch((error) => {
        if (at === undefined || !/equal or smaller/.test(error.message)) throw error;
      });
    },
    async after(log, id) {
      const entries = await command((client) => client.xRange(key(log), `(${id}`, '+'));
      return (entries ?? []).map(({ id, message }) => ({ id, text: message.text ?? '' }));
    },
  };
}
