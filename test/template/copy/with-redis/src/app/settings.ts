import type { Values } from '../contract.ts';

export const appSettings = {
  redisUrl: {
    name: 'REDIS_URL',
    default: 'redis://localhost',
    meaning: 'where the polls are kept',
    parse(text: string): string {
      if (!URL.canParse(text)) throw new Error('redis://host');
      return text;
    },
  },
  redisPasswordFile: {
    name: 'REDIS_PASSWORD_FILE',
    default: undefined,
    meaning: 'file with the password of the user in `REDIS_URL`',
    parse: (text: string): string => text,
  },
};

export type AppConfig = Values<typeof appSettings>;
