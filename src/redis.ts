import { createClient, defineScript } from 'redis';
import type { Log } from './log.ts';
import { retryWindow, type Store } from './store.ts';

/**
 * The key of the count. Ids are remembered in one hash for each retry window, under this name, a colon and the
 * window's number. It expires as a whole: far less work than a key for each id.
 */
export const countKey = 'visits';

// Milliseconds. Redis that is away is found again well within a second of its return; one that is frozen
// neither answers nor hangs up, so a silent connection is given up, and pings keep an idle one from being silent.
const longestPause = 250;
const connectTimeout = 1_000;
const silence = 1_000;
const pingInterval = 400;
const longestQueue = 100; // commands; one commit is under way at a time, so more are a mistake

// Count and memory change together or not at all, whatever dies in between. Remembered ids expire, the count does not.
// The answer begins with Redis' clock, by which deadlines are kept; that alone says that this one has passed.
const commit = defineScript({
  SCRIPT: `
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if now > tonumber(ARGV[2]) then return {now} end
    local window = tonumber(ARGV[1])
    local nth = math.floor(now / window)
    local name = KEYS[1] .. ':'
    local known = redis.call('HMGET', name .. nth, unpack(ARGV, 3))
    local before = redis.call('HMGET', name .. nth - 1, unpack(ARGV, 3))
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
      redis.call('HSET', name .. nth, unpack(remember))
      redis.call('PEXPIREAT', name .. nth, (nth + 2) * window)
    end
    table.insert(known, 1, now)
    return known`,
  parseCommand(parser, ids: string[], deadline: number) {
    parser.pushKeysLength([countKey]);
    parser.push(String(retryWindow), String(deadline), ...ids);
  },
  transformReply: undefined as unknown as () => number[],
});

/**
 * The store in Redis. Returns at once and connects in the background, for as long as it takes: until then, and
 * whenever Redis is away, calls reject within a second.
 */
export function openRedisStore(url: string, log: Log): Store {
  let connected = true; // what was said last
  let ahead = 0; // milliseconds between this machine's clock and Redis', as of its last answer
  const client = createClient({
    url,
    scripts: { commit },
    disableOfflineQueue: true,
    commandsQueueMaxLength: longestQueue,
    pingInterval,
    socket: {
      connectTimeout,
      socketTimeout: silence,
      // The default strategy gives a connection that fell silent up for good.
      reconnectStrategy: (retries) => Math.min(20 * 2 ** Math.min(retries, 10), longestPause),
    },
  });
  client.on('ready', () => {
    if (!connected) log.info('Redis is back');
    connected = true;
  });
  client.on('error', (error) => {
    if (connected) log.warn({ err: error }, 'Redis is away; trying again until it is back');
    connected = false;
  });
  client.connect().catch((error) => log.error({ err: error }, 'the connection to Redis has ended'));

  return {
    async commit(ids, deadline) {
      const [now, ...numbers] = (await client.commit(ids, deadline + ahead)) as [number, ...number[]];
      ahead = now - Date.now();
      if (numbers.length === 0) throw new Error('the commit reached Redis after its deadline');
      return numbers;
    },
    async ping() {
      await client.ping();
    },
    async close() {
      client.destroy();
    },
  };
}
