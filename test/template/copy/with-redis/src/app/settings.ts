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
};
