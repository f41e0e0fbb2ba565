/** Without Redis the primary keeps the logs, and workers ask it over their IPC channels. */
import { answerRequests, type Channel, createRequester } from '../../contract.ts';
import { type Entry, type History, keep, type LogName } from './history.ts';

interface Call {
  method: keyof History;
  // biome-ignore lint/suspicious/noExplicitAny: of the method
  arguments: any[];
}

/** In the primary. */
export function createMemoryHistory(count: () => number): History {
  const logs: Record<LogName, Entry[]> = { seconds: [], hours: [] };
  let number = 0; // makes ids of one millisecond differ
  return {
    count: async () => count(),
    async append(log, text, at) {
      const last = timeOf(logs[log].at(-1));
      if (at !== undefined && at <= last) return;
      number += 1;
      logs[log].push({ id: `${at ?? Math.max(Date.now(), last)}-${number}`, text });
      while (timeOf(logs[log][0]) < Date.now() - keep[log]) logs[log].shift();
    },
    async after(log, id) {
      return logs[log].slice(logs[log].findLastIndex((entry) => !isAfter(entry.id, id)) + 1);
    },
  };
}

const timeOf = (entry?: Entry) => (entry ? Number(entry.id.split('-')[0]) : 0);

function isAfter(id: string, other: string): boolean {
  const [time, number] = id.split('-').map(Number) as [number, number];
  const [otherTime, otherNumber = 0] = other.split('-').map(Number) as [number, number?];
  return time > otherTime || (time === otherTime && number > otherNumber);
}

/** In the primary: answers one worker. */
export function answerHistory(worker: Channel, history: History): void {
  answerRequests(worker, 'history', (call: Call) => {
    const method = history[call.method] as (...given: unknown[]) => Promise<unknown>;
    return method(...call.arguments);
  });
}

/** In a worker. */
export function openMemoryHistory(primary: Channel): History {
  // biome-ignore lint/suspicious/noExplicitAny: of the method
  const ask = createRequester<Call, any>(primary, 'history');
  return {
    count: () => ask({ method: 'count', arguments: [] }),
    append: (...given) => ask({ method: 'append', arguments: given }),
    after: (...given) => ask({ method: 'after', arguments: given }),
  };
}
