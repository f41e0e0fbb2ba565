/**
 * Your environment variables. `parse` gets the text that a variable has, and throws an error that says what would be
 * right. `default` is written as in the environment; undefined: the value may be absent.
 */
export const appSettings = {
  redisUrl: {
    name: 'REDIS_URL',
    default: undefined,
    meaning: 'where the count is kept; by default in the primary process, lost when it ends',
    parse(text: string): string {
      if (!URL.canParse(text) || !/^rediss?:\/\/[^/]/.test(text)) {
        throw new Error('redis://[[user]:password@]host[:port][/database], or rediss:// for TLS');
      }
      const { pathname } = new URL(text);
      if (!/^(\/\d*)?$/.test(pathname)) throw new Error('a number as its database: redis://host/0');
      return text;
    },
  },
};
