/** A viewer: what an EventSource gets, without its coming back. */
import { get, type IncomingHttpHeaders } from 'node:http';
import { atEnd } from './processes.ts';
import type { Address } from './requests.ts';
import { waitFor } from './wait.ts';

export interface Frame {
  event: string;
  id?: string;
  // biome-ignore lint/suspicious/noExplicitAny: JSON
  data: any;
}

export interface Events {
  status: number;
  headers: IncomingHttpHeaders;
  /** All so far. */
  frames: Frame[];
  /** Resolves when the server ends the stream, to whether it was its proper end. */
  ended: Promise<boolean>;
  /** The first frame that meets the condition, of those there are or come. */
  find(condition: (frame: Frame) => boolean, what: string, limit?: number): Promise<Frame>;
  close(): void;
}

export function openEvents(to: Address, path: string, headers: Record<string, string> = {}): Promise<Events> {
  const where = 'port' in to ? { host: '127.0.0.1', port: to.port } : { socketPath: to.socketPath };
  return new Promise((resolve, reject) => {
    const request = get({ ...where, path, headers, agent: false }, (response) => {
      const frames: Frame[] = [];
      let text = '';
      response.setEncoding('utf8').on('data', (part) => {
        const parts = (text + part).split('\n\n');
        text = parts.pop() ?? '';
        frames.push(...parts.flatMap(toFrame));
      });
      const ended = new Promise<boolean>((end) => response.once('close', () => end(response.complete)));
      response.on('error', () => {}); // 'close' follows
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        frames,
        ended,
        find(condition, what, limit = 15_000) {
          return waitFor(() => frames.find(condition), what, limit);
        },
        close: () => request.destroy(),
      });
    });
    request.on('error', reject);
    atEnd(() => request.destroy());
  });
}

function toFrame(text: string): Frame[] {
  const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1];
  const data = field('data');
  if (data === undefined) return [];
  const id = field('id');
  return [{ event: field('event') ?? 'message', data: JSON.parse(data), ...(id !== undefined && { id }) }];
}
