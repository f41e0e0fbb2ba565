/** Without Redis the primary keeps the logs, and workers ask it over their IPC channels. */
import type { Channel } from '../service.ts';
import { type Entry, type History, keep, type LogName } from './history.ts';

interface HistoryRequest {
  type: 'history';
  call: number;
  method: keyof History;
  // biome-ignore lint/suspicious/noExplicitAny: of the method
  arguments: any[];
}

interface HistoryResponse {
  type: 'history-answer';
  call: number;
  // biome-ignore lint/suspicious/noExplicitAny: of the method
  result: any;
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
  worker.on('message', async (request: HistoryRequest) => {
    if (request.type !== 'history') return;
    const method = history[request.method] as (...given: unknown[]) => Promise<unknown>;
    const result = await method(...request.arguments);
    worker.send?.({ type: 'history-answer', call: request.call, result } satisfies HistoryResponse, () => {});
  });
}

/** In a worker. */
export function openMemoryHistory(primary: Channel): History {
  const calls = new Map<number, (result: unknown) => void>();
  let last = 0;
  primary.on('message', (response: HistoryResponse) => {
    if (response.type !== 'history-answer') return;
    calls.get(response.call)?.(response.result);
    calls.delete(response.call);
  });
  const ask = (method: keyof History, ...given: unknown[]) =>
    // biome-ignore lint/suspicious/noExplicitAny: of the method
    new Promise<any>((resolve, reject) => {
      last += 1;
      const request: HistoryRequest = { type: 'history', call: last, method, arguments: given };
      calls.set(last, resolve);
      primary.send?.(request, (error) => {
        if (!error) return;
        calls.delete(request.call);
        reject(error);
      });
    });
  return {
    count: () => ask('count'),
    append: (...given) => ask('append', ...given),
    after: (...given) => ask('after', ...given),
  };
}
