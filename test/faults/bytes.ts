/** Bytes that may be no HTTP at all, sent as they are, and what a service says to them. */
import { connect } from 'node:net';
import type { Exchange } from '../support/history.ts';
import type { Address } from '../support/requests.ts';
import { now } from './load.ts';

export interface Reaction {
  /** Of every answer, in their order; `none`: the connection was closed, or nothing came. */
  statuses: string[];
  /** What the judge should know of. */
  exchanges: Exchange[];
}

const silence = 1_000; // milliseconds after which nothing more is expected

/**
 * `form`: the content type in which the load is answered. Only such an answer is one for the judge; what an answer 200
 * in another form did, if anything, nobody knows.
 */
export async function sendBytes(to: Address, bytes: string, form: string): Promise<Reaction> {
  const begin = now();
  const text = await readAnswers(to, bytes);
  const end = now();
  const answers = text.split(/^(?=HTTP\/1\.[01] \d{3})/m).filter((answer) => answer.startsWith('HTTP/1.'));
  const statuses = answers.map((answer) => answer.slice(9, 12));
  const exchanges = answers
    .filter((_, i) => statuses[i] === '200')
    .map((answer): Exchange => {
      const split = answer.indexOf('\r\n\r\n');
      const type = /^content-type: (.*?)\r$/im.exec(answer.slice(0, split + 1))?.[1];
      if (type !== form) return { begin, end, error: `an answer of type ${type}` };
      return { begin, end, status: 200, body: answer.slice(split + 4) };
    });
  return { statuses: answers.length > 0 ? statuses : ['none'], exchanges };
}

/** Resolves to all that comes back until the server closes, or has nothing more to say. */
function readAnswers(to: Address, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect('port' in to ? to : { path: to.socketPath });
    socket.setEncoding('latin1');
    socket.on('connect', () => socket.write(bytes, 'latin1'));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', () => {}); // it may close before it has read everything
    socket.on('close', () => resolve(text));
    socket.setTimeout(silence, () => socket.destroy());
  });
}

/** How often each status came, and what must not come: an error of the server, but for a version it does not speak. */
export function countStatuses(): {
  add(bytes: string, statuses: string[]): void;
  wrong: string[];
  toString(): string;
} {
  const counts: Record<string, number> = {};
  const wrong: string[] = [];
  return {
    add(bytes, statuses) {
      for (const status of statuses) {
        counts[status] = (counts[status] ?? 0) + 1;
        if (status.startsWith('5') && status !== '505') {
          wrong.push(`${status}: ${JSON.stringify(bytes.slice(0, 200))}`);
        }
      }
    },
    wrong,
    toString: () =>
      Object.entries(counts)
        .map(([status, times]) => `${times} × ${status}`)
        .join(', '),
  };
}
