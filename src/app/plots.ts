import type { Metrics } from '../contract.ts';
import { live, type Plot, plot, select } from '../plots.ts';
import { addUp, createIncrease, rangesOf, sum, toQuantiles, toRanges } from './durations.ts';
import type { Hours } from './hours.ts';

/** The table of plots. ADD YOURS HERE: docs/dashboard.md has examples. */
export function createPlots(metrics: Metrics, hours: Hours): Plot[] {
  return [visits(hours), rate(metrics), share(metrics), latency(metrics), roundTrip(metrics)];
}

const second = { field: 'time', type: 'temporal', title: null } as const;
const tenSeconds = {
  ...second,
  timeUnit: { unit: 'yearmonthdatehoursminutesseconds', step: 10 },
  axis: { format: '%H:%M:%S' },
} as const;

const visits = (hours: Hours) =>
  plot({
    name: 'visits',
    title: 'Visits',
    width: 'whole',
    every: 10,
    controls: {
      bars: select({ hours: 'each hour of a day', days: 'each day of a month (UTC)' }, { label: 'Bars' }),
    },
    rows: ({ bars }) => (bars === 'days' ? hours.byDay() : hours.byHour()),
    figure: ({ bars }) => ({
      mark: 'bar',
      encoding: {
        x: {
          field: 'start',
          timeUnit: bars === 'days' ? 'utcyearmonthdate' : 'yearmonthdatehours',
          axis: { format: bars === 'days' ? '%e %b' : '%H:%M' },
          title: null,
        },
        y: { field: 'visits', type: 'quantitative' },
      },
    }),
  });

function rate(metrics: Metrics): Plot {
  const answered = createIncrease(() => visitsIn(metrics));
  return live({
    name: 'rate',
    title: 'Visits a second',
    sample: () => ({ visits: sum(answered()) }),
    rows: (samples) => [{ visits: sum([...samples.values()].map(({ visits }) => visits)) }],
    figure: { mark: 'line', encoding: { x: second, y: { field: 'visits', type: 'quantitative' } } },
  });
}

function share(metrics: Metrics): Plot {
  const answered = createIncrease(() => visitsIn(metrics));
  return live({
    name: 'share',
    title: 'Which worker answered',
    sample: () => ({ visits: sum(answered()) }),
    figure: {
      mark: 'bar',
      encoding: {
        x: tenSeconds,
        y: { field: 'visits', aggregate: 'sum', stack: 'normalize', title: 'share of the visits' },
        color: { field: 'worker', type: 'nominal' },
      },
    },
  });
}

function latency(metrics: Metrics): Plot {
  return live({
    name: 'latency',
    title: 'Time to answer a visit',
    text: 'A cell has the visits of ten seconds that took so long: the stronger its colour, the more.',
    sample: createIncrease(() => visitsIn(metrics)),
    rows: (samples) => toRanges(addUp(samples.values()), metrics.bounds),
    figure: {
      mark: 'rect',
      encoding: {
        x: tenSeconds,
        y: { field: 'within', type: 'ordinal', sort: rangesOf(metrics.bounds) },
        color: { field: 'visits', aggregate: 'sum', title: 'visits' },
      },
    },
  });
}

function roundTrip(metrics: Metrics): Plot {
  return live({
    name: 'store',
    title: 'Round trip to where the count is kept',
    sample: createIncrease(() => metrics.read('db_client_operation')),
    rows: (samples) => toQuantiles(addUp(samples.values()), metrics.bounds),
    figure: {
      mark: { type: 'line', point: true },
      encoding: {
        x: second,
        y: { field: 'milliseconds', type: 'quantitative' },
        color: { field: 'of', type: 'nominal', title: null },
      },
    },
  });
}

const visitsIn = (metrics: Metrics) =>
  metrics
    .read('http_server_request')
    .filter(({ labels }) => labels.http_route === '/' && labels.http_response_status_code === '200')
    .filter(({ labels }) => labels.http_request_method === 'GET');
