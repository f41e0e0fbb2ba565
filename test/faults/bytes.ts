/** Bytes that may be no HTTP at all, sent as they are, and what a service says to them. */
import { connect } from 'node:net';
import type { Trial } from '../support/battery/harness.ts';
import type { Exchange } from '../support/history.ts';
import { now } from '../support/load.ts';
import type { Address } from '../support/requests.ts';

interface Reaction {
  /** Of every answer, in their order; `none`: the connection was closed, or nothing came. */
  statuses: string[];
  /** What the judge should know of. */
  exchanges: Exchange[];
}

const silence = 1_000; // milliseconds after which nothing more is expected

/** Sends all of these, so many at a time, and reports to the trial what they may have done. */
export async function sendAll(trial: Trial, inputs: string[], atOnce: number) {
  const form = String((await trial.ask()).headers['content-type']);
  const statuses = countStatuses();
  let unknown = 0;
  for (let at = 0; at < inputs.length; at += atOnce) {
    const batch = inputs.slice(at, at + atOnce);
    const reactions = await Promise.all(batch.map((bytes) => sendBytes(trial.to, bytes, form)));
    for (const [i, { statuses: found, exchanges }] of reactions.entries()) {
      statuses.add(batch[i] as string, found);
      trial.add(...exchanges);
      unknown += exchanges.filter(({ error }) => error).length;
    }
  }
  return { statuses, seen: `${statuses}; of ${unknown} nobody knows what they did` };
}

/**
 * `form`: the content type in which the load is answered. Only such an answer to GET is one for the judge: what an
 * answer 200 in another form or to another method did, if anything, nobody knows.
 */
async function sendBytes(to: Address, bytes: string, form: string): Promise<Reaction> {
  const begin = now();
  const text = await readAnswers(to, bytes);
  const end = now();
  const answers = splitAnswers(text);
  if (answers.length === 0) {
    return { statuses: ['none'], exchanges: [{ begin, end, error: 'no answer' }] };
  }
  const exchanges = answers
    .filter(({ status }) => status === '200')
    .map(({ type, body, toGet }): Exchange => {
      if (type !== form || !toGet) return { begin, end, error: `another answer, of type ${type}` };
      return { begin, end, status: 200, body };
    });
  if (answers.some(({ bare }) => bare) && /\n\r?\n/.test(bytes)) {
    exchanges.push({ begin, end, error: 'broken off' });
  }
  return { statuses: answers.map(({ status }) => status), exchanges };
}

interface Answer {
  status: string;
  type: string | undefined;
  body: string;
  /** Not to HEAD, whose answer lacks the body that it tells of, and not to OPTIONS. */
  toGet: boolean;
  /** Written by Node.js itself, which breaks the connection off, even while it serves what came first on it. */
  bare: boolean;
}

/** One answer may follow the body of another without a line break between them. */
function splitAnswers(text: string): Answer[] {
  const answers: Answer[] = [];
  for (let rest = text; rest.startsWith('HTTP/1.'); ) {
    const split = rest.indexOf('\r\n\r\n') + 4;
    const head = rest.slice(0, split < 4 ? rest.length : split);
    const field = (name: string) => new RegExp(`^${name}: (.*?)\r$`, 'im').exec(head)?.[1];
    // An answer to HEAD, too, says how long the body is, but has none.
    const following = rest.slice(head.length);
    const length = Number(field('content-length'));
    const body = following.startsWith('HTTP/1.') ? '' : following.slice(0, length || 0);
    answers.push({
      status: head.slice(9, 12),
      type: field('content-type'),
      body: Buffer.from(body, 'latin1').toString(),
      toGet: body.length === length && field('allow') === undefined,
      bare: head[9] === '4' && field('date') === undefined,
    });
    rest = following.slice(body.length);
  }
  return answers;
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
function countStatuses(): {
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
