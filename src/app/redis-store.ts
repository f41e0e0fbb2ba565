import { lookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { createClient, defineScript } from 'redis';
import type { Log } from '../contract.ts';
import { notesKept, type Store } from './store.ts';

/**
 * The key of the count. Ids are remembered in one hash for each deduplication window: `{visits}:INDEX`. A hash expires as
 * a whole: far less work than a key for each id. The braces put all keys into one slot of a cluster.
 */
export const countKey = 'visits';
/** Streams: the count at the start of each hour, and what the dashboard's live figures show. */
const hoursKey = `${countKey}:hours`;
const liveKey = `${countKey}:seconds`;

// Milliseconds. A frozen Redis neither answers nor closes its connections, so a silent one is given up after
// socketTimeout. Pings keep an idle one from being silent. Redis is found again well within a second of its return.
export const connectTimeout = 1_000;
export const socketTimeout = 1_000;
export const pingInterval = 400;
const initialBackoff = 20; // doubled by each failure in a row
const maxBackoff = 250;
const maxQueueSize = 100; // commands; a few batches are under way at once, so more would be a mistake in the code

const backoff = (retries: number) => Math.min(initialBackoff * 2 ** Math.min(retries, 10), maxBackoff);

// Replies of a server that is not the one to write to, or not yet. After a fail-over the address leads to another
// server, but connections that exist stay where they are. A script's reply may have other words in front.
const wrongServer = /\b(READONLY|MASTERDOWN|LOADING|NOREPLICAS|MOVED|CLUSTERDOWN)\b/;

const idLength = 16; // bytes: 32 hexadecimal digits

// Count and remembered ids change together or not at all, whatever dies in between.
// ARGV: the deduplication window, the deadline, all ids as one string of bytes. Returns Redis' clock; after it the number
// of the first new id, the others follow it; then the index (from 1) and the number of each known id. However many new
// ids there are, they take one argument and one number. The clock alone means: the deadline had passed, nothing was
// counted. Without ids it runs the same commands and counts nothing, so that a missing right shows.
const allocate = defineScript({
  SCRIPT: `
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    if now > tonumber(ARGV[2]) then return {now} end
    local windowLength = tonumber(ARGV[1])
    local windowIndex = math.floor(now / windowLength)
    local name = '{' .. KEYS[1] .. '}:'
    local current = name .. windowIndex
    if ARGV[3] == '' then
      redis.call('HMGET', current, '')
      redis.call('INCRBY', KEYS[1], 0)
      redis.call('HSET', current, '', 0)
      redis.call('PEXPIREAT', current, (windowIndex + 2) * windowLength)
      return {now}
    end
    local ids = {}
    for i = 1, #ARGV[3] / ${idLength} do
      ids[i] = string.sub(ARGV[3], (i - 1) * ${idLength} + 1, i * ${idLength})
    end
    local known = redis.call('HMGET', current, unpack(ids))
    local before = redis.call('HMGET', name .. windowIndex - 1, unpack(ids))
    -- What versions before 0.2.0 remember, for an upgrade under load; goes with 0.3.0. pcall: a cluster refuses these keys.
    local old = redis.pcall('HMGET', KEYS[1] .. ':' .. windowIndex, unpack(ids))
    local older = redis.pcall('HMGET', KEYS[1] .. ':' .. windowIndex - 1, unpack(ids))
    local reply = {now, 0}
    local new = {}
    for i = 1, #ids do
      local number = known[i] or before[i] or old[i] or older[i]
      if number then
        reply[#reply + 1] = i
        reply[#reply + 1] = tonumber(number)
      else
        new[#new + 1] = ids[i]
      end
    end
    reply[2] = redis.call('INCRBY', KEYS[1], #new) - #new + 1
    if #new > 0 then
      local remember = {}
      for i = 1, #new do
        remember[2 * i - 1] = new[i]
        remember[2 * i] = reply[2] + i - 1
      end
      redis.call('HSET', current, unpack(remember))
      redis.call('PEXPIREAT', current, (windowIndex + 2) * windowLength)
    end
    return reply`,
  parseCommand(parser, deduplicationWindow: number, ids: string[], deadline: number) {
    const bytes = Buffer.from(ids.join(''), 'hex');
    if (bytes.length !== ids.length * idLength) throw new Error('each id must be 32 hexadecimal digits');
    parser.pushKeysLength([countKey]);
    parser.push(String(deduplicationWindow), String(deadline), bytes);
  },
  transformReply: undefined as unknown as () => number[],
});

/** The numbers of `count` ids: see `allocate`. */
function readNumbers([first = 0, ...known]: number[], count: number): number[] {
  const numbers = new Array<number>(count);
  for (let i = 0; i < known.length; i += 2) numbers[(known[i] as number) - 1] = known[i + 1] as number;
  let next = first;
  for (let i = 0; i < count; i++) numbers[i] ??= next++;
  return numbers;
}

interface Options {
  log: Log;
  /** Milliseconds. */
  deduplicationWindow: number;
  /** Asked at each connection, so that a file may get a new password while the app runs. By default that of the URL. */
  password?: () => string | undefined;
}

/**
 * The store in Redis. Returns at once and connects in the background, for as long as it takes: until then, and
 * whenever Redis is away, calls reject within a second.
 */
export function openRedisStore(url: string, { log, deduplicationWindow, password }: Options): Store {
  let clockOffset = 0; // milliseconds by which Redis' clock is ahead of ours, as of its last answer
  const client = createRedisClient(url, password);
  const { attempt, succeed, close } = keepConnected(client, new URL(url).host, log);
  client.on('ready', () => run([], Number.MAX_SAFE_INTEGER).catch(() => {})); // is it the right server?

  /** What the script returns after its clock. */
  async function run(ids: string[], deadline: number): Promise<number[]> {
    const [now, ...reply] = (await attempt(() =>
      client.allocate(deduplicationWindow, ids, deadline + clockOffset),
    )) as [number, ...number[]];
    clockOffset = now - Date.now();
    succeed();
    return reply;
  }

  const command = (words: string[]): Promise<unknown> => attempt(() => client.sendCommand(words));

  return {
    redis: { key: liveKey, command },
    async allocate(ids, deadline) {
      const reply = await run(ids, deadline);
      if (reply.length === 0) throw new Error('the ids reached Redis after their deadline');
      return readNumbers(reply, ids.length);
    },
    async ready() {
      await run([], Number.MAX_SAFE_INTEGER);
    },
    async count() {
      return Number(await command(['GET', countKey]));
    },
    async note(at, count) {
      const entry = [`${at}-0`, 'text', String(count)];
      await command(['XADD', hoursKey, 'MINID', '~', String(at - notesKept), ...entry]).catch((error) => {
        if (!/equal or smaller/.test(error.message)) throw error; // another worker was first
      });
    },
    async notes() {
      const entries = (await command(['XRANGE', hoursKey, '-', '+'])) as [id: string, fields: string[]][];
      return entries.map(([id, [, count]]) => ({ at: Number.parseInt(id, 10), count: Number(count) }));
    },
    close,
  };
}

function createRedisClient(url: string, password: Options['password']) {
  // What the client reads in a URL comes before its options, so the URL goes there without user and password.
  const address = new URL(url);
  const user = { name: decodeURIComponent(address.username), password: decodeURIComponent(address.password) };
  Object.assign(address, { username: '', password: '' });
  return createClient({
    url: address.href,
    credentialsProvider: {
      type: 'async-credentials-provider',
      async credentials() {
        return { username: user.name || 'default', password: password?.() || user.password };
      },
    },
    RESP: 2, // RESP 3 begins with HELLO, which some proxies and managed stores do not know
    scripts: { allocate },
    disableOfflineQueue: true,
    commandsQueueMaxLength: maxQueueSize,
    pingInterval,
    socket: {
      connectTimeout,
      socketTimeout,
      lookup: shareLookups(),
      // The client's own strategy gives up for good after a socket timeout.
      reconnectStrategy: backoff,
    },
  });
}

/**
 * dns.lookup, one at a time. connectTimeout ends an attempt to connect, but not its look-up. The next attempt takes the
 * answer of that one: with a look-up of its own, which is as slow, no attempt would ever succeed.
 */
function shareLookups(): LookupFunction {
  let answer: Promise<Parameters<Parameters<LookupFunction>[2]>> | undefined;
  return (host, options, callback) => {
    answer ??= new Promise((resolve) => {
      lookup(host, options, (...found) => {
        resolve(found);
        setTimeout(() => {
          answer = undefined;
        }, 2 * maxBackoff); // longer than a pause between two attempts
      });
    });
    answer.then((found) => callback(...found));
  };
}

/**
 * Connects in the background, and anew whenever the connection is lost or leads to a wrong server. Logs one line when
 * Redis goes away, and one when a command has succeeded again. `address`: what errors and the log call it.
 */
function keepConnected(client: ReturnType<typeof createRedisClient>, address: string, log: Log) {
  let lastLogged: 'back' | 'away' = 'back';
  let refusals = 0; // in a row
  let reconnection: NodeJS.Timeout | undefined;

  function connect(): void {
    client.connect().catch((error) => log.error({ err: error }, `no connection to ${describe(error)}`));
  }
  // Where no address of a name answers, the error has no message.
  const describe = (error: NodeJS.ErrnoException) => `Redis at ${address}: ${error.message || error.code}`;
  function fail(error: Error): void {
    if (lastLogged === 'back') {
      log.warn({ err: error }, `Redis is away; trying again until it is back. ${describe(error)}`);
    }
    lastLogged = 'away';
    if (wrongServer.test(error.message)) reconnect();
  }
  function reconnect(): void {
    if (!client.isReady) return;
    client.destroy();
    reconnection = setTimeout(connect, backoff(refusals++));
  }
  client.on('error', fail);
  connect();
  return {
    async attempt<Reply>(send: () => Promise<Reply>): Promise<Reply> {
      // A connection that is written to again and again is not idle, so its own timeout would not end it.
      const silence = setTimeout(reconnect, 2 * socketTimeout);
      try {
        return await send();
      } catch (error) {
        if (wrongServer.test((error as Error).message)) fail(error as Error);
        throw new Error(describe(error as Error), { cause: error });
      } finally {
        clearTimeout(silence);
      }
    },
    succeed(): void {
      if (lastLogged === 'away') log.info('Redis is back');
      lastLogged = 'back';
      refusals = 0;
    },
    async close(): Promise<void> {
      clearTimeout(reconnection);
      client.destroy();
    },
  };
}
