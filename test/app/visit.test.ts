import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Exchange } from '../support/history.ts';
import { judge } from './visit.ts';

const answer = (number: number, begin: number, end = begin + 1): Exchange => ({
  begin,
  end,
  status: 200,
  body: `{"hits":${number}}`,
});
const lost = (begin: number, end = begin + 1): Exchange => ({ begin, end, error: 'ECONNRESET' });
const refused = (begin: number, end = begin + 1): Exchange => ({ begin, end, status: 503, body: 'not now' });

/**
 * A history of visits on several connections to a counter, in which each visit takes some time and is counted at one
 * instant of it. A visit may stay without an answer, counted or not. The last one comes after all others.
 */
const histories = fc
  .array(
    fc.record({
      client: fc.nat(4),
      pause: fc.nat(3),
      wait: fc.integer({ min: 1, max: 5 }),
      rest: fc.integer({ min: 1, max: 5 }),
      fate: fc.constantFrom('answered', 'answered', 'answered', 'counted', 'not counted'),
    }),
    { maxLength: 60 },
  )
  .map((steps) => {
    const free = [0, 0, 0, 0, 0];
    const visits: Step[] = steps.map(({ client, pause, wait, rest, fate }, i) => {
      const begin = (free[client] as number) + pause;
      const at = begin + wait + i / 1_000; // no two at the same instant
      const end = at + rest;
      free[client] = end;
      return { begin, at, end, fate };
    });
    const latest = Math.max(0, ...visits.map(({ end }) => end)) + 1;
    visits.push({ begin: latest, at: latest + 1, end: latest + 2, fate: 'answered' });
    return visits.toSorted((a, b) => a.at - b.at);
  });

interface Step {
  begin: number;
  /** When it is counted. */
  at: number;
  end: number;
  fate: string;
}

/** What clients see of a counter that gives each counted visit, in their order, what `give` says. */
function see(visits: Step[], give: (index: number) => number): Exchange[] {
  let index = 0;
  return visits.map(({ begin, end, fate }) => {
    const number = fate === 'not counted' ? 0 : give(index++);
    return fate === 'answered' ? answer(number, begin, end) : lost(begin, end);
  });
}

const inOrder = (index: number) => index + 1;
const count = (visits: Step[], fate: string) => visits.filter((visit) => visit.fate === fate).length;

describe('a right counter', () => {
  test('is found right, whatever comes at the same time and whatever is lost on the way', () => {
    fc.assert(
      fc.property(histories, (visits) => {
        const verdict = judge(see(visits, inOrder));
        expect(verdict).toEqual({ wrong: [], unacknowledged: count(visits, 'counted') });
      }),
      { numRuns: 500 },
    );
  });

  test('is found right, whatever the order of its history', () => {
    const shuffled = histories.chain((visits) => {
      const history = see(visits, inOrder);
      return fc.shuffledSubarray(history, { minLength: history.length });
    });
    fc.assert(fc.property(shuffled, (history) => expect(judge(history).wrong).toEqual([])));
  });

  test('may have counted what was refused, and what got no answer', () => {
    const history = [refused(0), lost(0), answer(3, 1, 2), refused(3), answer(4, 5)];
    expect(judge(history)).toEqual({ wrong: [], unacknowledged: 2 });
  });

  test('is not blamed for a refusal of what was no visit', () => {
    const history = [answer(1, 0), { begin: 1, end: 2, status: 400, body: 'Bad Request' }, answer(2, 3)];
    expect(judge(history)).toEqual({ wrong: [], unacknowledged: 0 });
  });

  test('answers as JSON or as text', () => {
    const text = { begin: 2, end: 3, status: 200, body: "I've been seen 2 times.\n" };
    expect(judge([answer(1, 0), text])).toEqual({ wrong: [], unacknowledged: 0 });
  });

  test('has a history of any length', () => {
    const history = Array.from({ length: 300_000 }, (_, i) => answer(i + 1, 2 * i));
    expect(judge(history)).toEqual({ wrong: [], unacknowledged: 0 });
  });
});

describe('a broken counter', () => {
  const findings = (history: Exchange[]) => judge(history).wrong;

  test('that answers with what it said before (a stale answer)', () => {
    expect(findings([answer(1, 0), answer(2, 2), answer(2, 4), answer(3, 6)])).toEqual([
      'the number 2 was given more than once',
    ]);
  });

  test('that is two, one for each worker', () => {
    expect(findings([answer(1, 0), answer(1, 0), answer(2, 2), answer(2, 2), answer(3, 4)])).not.toEqual([]);
    fc.assert(
      fc.property(
        histories.filter(
          (visits) => count(visits, 'answered') > 3 && visits.length === count(visits, 'answered'),
        ),
        (visits) => {
          const counts = [0, 0];
          const give = (index: number) => {
            counts[index % 2] = (counts[index % 2] as number) + 1;
            return counts[index % 2] as number;
          };
          expect(findings(see(visits, give))).not.toEqual([]);
        },
      ),
      { numRuns: 50 },
    );
  });

  test('that is two, one of even and one of odd numbers, of which one is faster', () => {
    expect(findings([answer(1, 0), answer(3, 2), answer(5, 4), answer(2, 6), answer(4, 8)])).toEqual([
      '2 was given to a visit that began after 5 was answered',
      '4 was given to a visit that began after 5 was answered',
    ]);
  });

  test('that has lost a visit that was answered', () => {
    expect(findings([answer(1, 0), answer(2, 2), answer(2, 4)])).not.toEqual([]); // it came back from an old copy
    expect(findings([answer(1, 0), answer(2, 2), answer(1, 4)])).not.toEqual([]); // it began anew
  });

  test('that has counted a visit twice, or one that nobody made', () => {
    expect(findings([answer(1, 0), answer(3, 2), answer(4, 4)])).toEqual([
      '2 is missing, and too few visits without an answer had begun by then',
    ]);
    expect(findings([answer(2, 0)])).toEqual([
      '1 is missing, and too few visits without an answer had begun by then',
    ]);
    const end = 'are missing, and too few visits without an answer had begun by then';
    expect(findings([answer(1e15, 0)])).toEqual([`1 to ${1e15 - 1} ${end}`]);
    // Every visit can have got one number only.
    expect(findings([lost(0), answer(2, 1), answer(4, 4)])).toEqual([
      '3 is missing, and too few visits without an answer had begun by then',
    ]);
  });

  test('that has counted a visit twice, long before others were lost', () => {
    expect(findings([answer(1, 0), answer(3, 2), lost(10), answer(4, 12)])).toEqual([
      '2 is missing, and too few visits without an answer had begun by then',
    ]);
  });

  test('that numbers in another order than that of the visits', () => {
    expect(findings([answer(2, 0), answer(1, 2), answer(3, 4)])).toContain(
      '1 was given to a visit that began after 2 was answered',
    );
    expect(findings([answer(2, 0, 3), answer(1, 2, 4), answer(3, 5)])).toEqual([]); // at the same time: any order
  });

  test.each([
    '',
    '{"hits":0}',
    '{"hits":-1}',
    '{"hits":1.5}',
    '{"hits":null}',
    '<html>502 Bad Gateway</html>',
    '1',
  ])('that answers %j', (body) => {
    expect(findings([{ begin: 0, end: 1, status: 200, body }])).toEqual([
      `an answer without a number: ${body}`,
    ]);
  });

  const without = (fate: string) => histories.filter((visits) => count(visits, fate) === 0);

  test('whatever number it repeats', () => {
    fc.assert(
      fc.property(histories, fc.nat(), (visits, nth) => {
        const total = visits.length - count(visits, 'not counted');
        const repeated = nth % total;
        const history = see(visits, (index) => (index > repeated ? index : index + 1));
        const [first, second] = visits.filter(({ fate }) => fate !== 'not counted').slice(repeated);
        fc.pre(first?.fate === 'answered' && second?.fate === 'answered');
        expect(judge(history).wrong).not.toEqual([]);
      }),
    );
  });

  test('whatever number it leaves out, if no visit was without an answer', () => {
    const complete = without('counted').map((visits) => visits.filter(({ fate }) => fate === 'answered'));
    fc.assert(
      fc.property(complete, fc.nat(), (visits, nth) => {
        const left = nth % visits.length;
        const verdict = judge(see(visits, (index) => (index >= left ? index + 2 : index + 1)));
        expect(verdict.wrong).toEqual([
          `${left + 1} is missing, and too few visits without an answer had begun by then`,
        ]);
      }),
    );
  });

  test('that exchanges the numbers of two visits of which one had ended before the other began', () => {
    const complete = histories.map((visits) => visits.filter(({ fate }) => fate === 'answered'));
    fc.assert(
      fc.property(complete, fc.nat(), fc.nat(), (visits, a, b) => {
        const [i, j] = [a % visits.length, b % visits.length].toSorted((x, y) => x - y) as [number, number];
        fc.pre((visits[i]?.end as number) < (visits[j]?.begin as number));
        const give = (index: number) => (index === i ? j : index === j ? i : index) + 1;
        expect(judge(see(visits, give)).wrong).not.toEqual([]);
      }),
    );
  });
});
