import { createClient } from 'redis';
import type { Log, Retry } from './service.ts';

/** Polls: how many voted for what. A vote that is sent again under the same id is one vote. */
export interface Polls {
  vote(choice: string, id: string): Promise<void>;
  result(): Promise<Record<string, string>>;
  ready(): Promise<void>;
  close(): Promise<void>;
}

export function openPolls(config: { redisUrl: string }, log: Log, retry: Retry): Polls {
  const client = createClient({
    url: config.redisUrl,
    disableOfflineQueue: true,
    socket: { socketTimeout: 1_000 },
  });
  client.on('error', (err) => log.warn({ err }, 'Redis is away'));
  client.connect().catch((err) => log.error({ err }, 'the connection to Redis has ended'));
  return {
    vote: (choice, id) =>
      retry(async () => {
        const key = `poll:vote:${id}`;
        const isNew = await client.set(key, choice, {
          condition: 'NX',
          expiration: { type: 'EX', value: 60 },
        });
        if (isNew) await client.hIncrBy('poll', choice, 1);
      }),
    result: () => retry(async () => ({ ...(await client.hGetAll('poll')) })),
    async ready() {
      await client.hGetAll('poll');
    },
    async close() {
      client.destroy();
    },
  };
}
