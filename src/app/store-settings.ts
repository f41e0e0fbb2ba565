/** Where the store is, and how the app logs in there. */
export const storeSettings = {
  redisUrl: {
    name: 'REDIS_URL',
    default: undefined,
    meaning: 'where the count is kept; by default in the primary process, lost when it ends',
    secret: true,
    parse(text: string): string {
      const url = URL.canParse(text) ? new URL(text) : undefined;
      if (!url || !/^rediss?:$/.test(url.protocol) || !url.hostname) {
        throw new Error('redis://[user[:password]@]host[:port][/database], or rediss:// for TLS');
      }
      if (!/^(\/\d*)?$/.test(url.pathname) || url.search || url.hash || !isDecodable(url)) {
        throw new Error(
          'a number as its database (redis://host/0), and REDIS_PASSWORD for a password with / ? # or %',
        );
      }
      return text;
    },
  },
  redisPassword: {
    name: 'REDIS_PASSWORD',
    default: undefined,
    meaning: 'password of the user in `REDIS_URL`; any characters, unlike in the URL',
    secret: true,
    parse: (text: string): string => text,
  },
};

function isDecodable({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}
