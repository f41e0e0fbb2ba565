/** A bad network between the app and Redis: a TCP proxy that delays, slices, resets and starves what it carries. */
import { connect, createServer, type Socket } from 'node:net';
import { freePort } from '../../support/requests.ts';
import { delay } from '../../support/wait.ts';

export type Direction = 'to Redis' | 'from Redis';

export interface Weather {
  /** Milliseconds that each chunk is late, and the random part that is added. */
  latency?: number;
  jitter?: number;
  /** Bytes that are handed on at once. */
  slice?: number;
  /** Nothing is carried that way until the weather changes; then what was held arrives. */
  starved?: 'both ways' | Direction;
}

export interface Link {
  readonly url: string;
  change(weather: Weather): void;
  /** Where new connections go; those that exist stay where they are. */
  redirect(toPort: number): void;
  /** Cuts all connections as a failing router does: by resets. */
  reset(): void;
  close(): Promise<void>;
}

export async function openLink(to: number): Promise<Link> {
  const port = await freePort();
  let toPort = to;
  const sockets = new Set<Socket>();
  let weather: Weather = {};
  const held = new Set<() => void>();

  const server = createServer((near) => {
    const far = connect({ port: toPort });
    for (const [from, to, direction] of [
      [near, far, 'to Redis'],
      [far, near, 'from Redis'],
    ] as const) {
      from.setNoDelay(true);
      sockets.add(from);
      from.on('error', () => {}); // 'close' follows
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      carry(from, to, direction);
    }
  });

  async function carry(from: Socket, to: Socket, direction: Direction): Promise<void> {
    const isHeld = () => weather.starved === 'both ways' || weather.starved === direction;
    try {
      for await (const chunk of from as AsyncIterable<Buffer>) {
        const { slice = chunk.length } = weather;
        for (let at = 0; at < chunk.length; at += slice) {
          while (isHeld()) await new Promise<void>((resume) => held.add(resume));
          const { latency = 0, jitter = 0 } = weather;
          if (latency + jitter > 0) await delay(latency + Math.random() * jitter);
          else if (slice < chunk.length) await new Promise(setImmediate);
          if (to.destroyed) return;
          to.write(chunk.subarray(at, at + slice));
        }
      }
    } catch {
      // cut
    }
  }

  await new Promise<void>((resolve) => server.listen(port, resolve));
  return {
    url: `redis://127.0.0.1:${port}`,
    change(next) {
      weather = next;
      for (const resume of held) resume();
      held.clear();
    },
    redirect(next) {
      toPort = next;
    },
    reset() {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    async close() {
      weather = {};
      for (const resume of held) resume();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
