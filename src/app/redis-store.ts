import { readFile } from 'node:fs/promises';
import { createClient, defineScript } from 'redis';
import type { Log } from './service.ts';
import type { Store } from './store.ts';

/**
 * The key of the count. Ids are remembered in one hash for each deduplication window, under this name, a colon and the
 * window's index. A hash expires as a whole: far less work than a key for each id.
 */
export const countKey = 'visits';

// Milliseconds. A frozen Redis neither answers nor closes its connections, so a silent one is given up after
// socketTimeout. Pings keep an idle one from being silent. Redis is found again well within a second of its return.
export const connectTimeout = 1_000;
export const socketTimeout = 1_000;
export const pingInterval = 400;
export const initialBackoff = 20; // doubled by each failure in a row
export const maxBackoff = 250;
const maxQueueSize = 100; // commands; there is one batch at a time, so more would be a mistake in the code

// Count and remembered ids change together or not at all, whatever dies in between.
// Returns Redis' clock, then a number for each id. The clock alone means: the deadline had passed, nothing was counted.
// Without ids it runs the same commands and counts nothing, so that a missing right shows.
const allocate = defineScript({
  SCRIPT: `
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if now > tonumber(ARGV[2]) then return {now} end
    local windowLength = tonumber(ARGV[1])
    local windowIndex = math.floor(now / windowLength)
    local name = KEYS[1] .. ':'
    local current = name .. windowIndex
    if #ARGV == 2 then
      redis.call('HMGET', current, '')
      redis.call('INCRBY', KEYS[1], 0)
      redis.call('HSET', current, '', 0)
      redis.call('PEXPIREAT', current, (windowIndex + 2) * windowLength)
      return {now}
    end
    local known = redis.call('HMGET', current, unpack(ARGV, 3))
    local before = redis.call('HMGET', name .. windowIndex - 1, unpack(ARGV, 3))
    local new = 0
    for i = 1, #known do
      known[i] = tonumber(known[i] or before[i]) or false
      if not known[i] then new = new + 1 end
    end
    local number = redis.call('INCRBY', KEYS[1], new) - new
    local remember = {}
    for i = 1, #known do
      if not known[i] then
        number = number + 1
        known[i] = number
        remember[#remember + 1] = ARGV[i + 2]
        remember[#remember + 1] = number
      end
    end
    if new > 0 then
      redis.call('HSET', current, unpack(remember))
      redis.call('PEXPIREAT', current, (windowIndex + 2) * windowLength)
    end
    table.insert(known, 1, now)
    return known`,
  parseCommand(parser, deduplicationWindow: number, ids: string[], deadline: number) {
    parser.pushKeysLength([countKey]);
    parser.push(String(deduplicationWindow), String(deadline), ...ids);
  },
  transformReply: undefined as unknown as () => number[],
});

/** What else the app asks of Redis goes over the same connection. */
export interface RedisStore extends Store {
  client: Pick<ReturnType<typeof createClient>, 'get' | 'xAdd' | 'xRange'>;
}

interface Credentials {
  /** By default that of the file, and without a file that of the URL. */
  password?: string | undefined;
  passwordFile?: string | undefined;
}

/**
 * The store in Redis. Returns at once and connects in the background, for as long as it takes: until then, and
 * whenever Redis is away, calls reject within a second. `deduplicationWindow`: milliseconds.
 */
export function openRedisStore(
  url: string,
  { log, deduplicationWindow, ...options }: { log: Log; deduplicationWindow: number } & Credentials,
): RedisStore {
  let lastLogged: 'back' | 'away' = 'back';
  let clockOffset = 0; // milliseconds by which Redis' clock is ahead of ours, as of its last answer
  // What the client reads in a URL comes before its options, so the URL goes there without user and password.
  const address = new URL(url);
  const user = { name: decodeURIComponent(address.username), password: decodeURIComponent(address.password) };
  Object.assign(address, { username: '', password: '' });
  const client = createClient({
    url: address.href,
    credentialsProvider: {
      type: 'async-credentials-provider',
      // Asked at each connection, so that a file may get a new password while the app runs.
      async credentials() {
        const password = (await readPassword(options)) || user.password;
        return { username: user.name || 'default', password };
      },
    },
    scripts: { allocate },
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxQueueSize,
    pingInterval,
    socket: {
      connectTimeout,
      socketTimeout,
      // The client's own strategy gives up for good after a socket time-out.
      reconnectStrategy: (retries) => Math.min(initialBackoff * 2 ** Math.min(retries, 10), maxBackoff),
    },
  });
  client.on('ready', () => {
    if (lastLogged === 'away') log.info('Redis is back');
    lastLogged = 'back';
  });
  client.on('error', (error) => {
    if (lastLogged === 'back') log.warn({ err: error }, 'Redis is away; trying again until it is back');
    lastLogged = 'away';
  });
  client.connect().catch((error) => log.error({ err: error }, 'the connection to Redis has ended'));

  async function run(ids: string[], deadline: number): Promise<number[]> {
    const reply = await client.allocate(deduplicationWindow, ids, deadline + clockOffset);
    const [now, ...numbers] = reply as [number, ...number[]];
    clockOffset = now - Date.now();
    return numbers;
  }

  return {
    client,
    async allocate(ids, deadline) {
      const numbers = await run(ids, deadline);
      if (numbers.length === 0) throw new Error('the ids reached Redis after their deadline');
      return numbers;
    },
    async ready() {
      await run([], Number.MAX_SAFE_INTEGER);
    },
    async close() {
      client.destroy();
    },
  };
}

async function readPassword({ password, passwordFile }: Credentials): Promise<string | undefined> {
  const text = password ?? (passwordFile && (await readFile(passwordFile, 'utf8')));
  return text?.replace(/\n+$/, ''); // as a shell's $(cat) reads it: editors end a file with a newline
}
