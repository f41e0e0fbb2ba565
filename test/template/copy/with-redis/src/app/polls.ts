import { readFile } from 'node:fs/promises';
import { createClient } from 'redis';
import type { Context } from '../contract.ts';
import type { AppConfig } from './settings.ts';

/** Polls: how many voted for what. A vote that is sent again under the same id is one vote. */
export interface Polls {
  vote(choice: string, id: string): Promise<void>;
  result(): Promise<Record<string, string>>;
  ready(): Promise<void>;
  close(): Promise<void>;
}

export async function openPolls({ config, log, retry }: Context<AppConfig>): Promise<Polls> {
  const url = new URL(config.redisUrl);
  if (config.redisPasswordFile) {
    url.password = encodeURIComponent((await readFile(config.redisPasswordFile, 'utf8')).trim());
  }
  const client = createClient({
    url: url.href,
    disableOfflineQueue: true,
    pingInterval: 400,
    socket: { socketTimeout: 1_000, reconnectStrategy: () => 100 },
  });
  client.on('error', (err) => log.warn({ err }, `no Redis at ${url.host}`));
  client.connect().catch((err) => log.error({ err }, `the connection to ${url.host} has ended`));
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
