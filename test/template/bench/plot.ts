/** Two panels as one SVG: visits a second as bars, and commands to Redis a visit as load grows. */

export interface Bar {
  name: string;
  perSecond: number;
}

export interface Point {
  connections: number;
  commands: number;
}

const width = 820;
const left = 350;

export function plot(bars: Bar[], points: Point[]): string {
  const most = Math.max(...bars.map(({ perSecond }) => perSecond));
  const rows = bars.map(({ name, perSecond }, i) => {
    const y = 60 + 34 * i;
    const length = ((width - left - 90) * perSecond) / most;
    return [
      `<text x="${left - 10}" y="${y + 16}" text-anchor="end">${name.replaceAll('&', '&amp;')}</text>`,
      `<rect class="${i === 0 ? 'ours' : 'theirs'}" x="${left}" y="${y}" width="${length.toFixed(1)}" height="24" rx="2"/>`,
      `<text x="${left + length + 8}" y="${y + 16}">${Math.round(perSecond).toLocaleString('en')}</text>`,
    ].join('');
  });
  const top = 60 + 34 * bars.length + 60;
  const height = 150;
  const x = (i: number) => left + (i * (width - left - 60)) / (points.length - 1);
  const y = (commands: number) => top + height * (1 - Math.min(commands, 1.1) / 1.1);
  const line = points.map(({ commands }, i) => `${x(i).toFixed(1)},${y(commands).toFixed(1)}`).join(' ');
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${top + height + 50}" role="img">
<title>Visits a second of each stack, and commands to Redis a visit as load grows</title>
<style>
  svg { background: #fff } text { font: 13px system-ui, sans-serif; fill: #222 } .title { font-weight: 600 }
  .ours { fill: #2a6f4e } .theirs { fill: #b5bdb8 } .axis { stroke: #ccc } .line { fill: none; stroke: #2a6f4e; stroke-width: 2 }
</style>
<text class="title" x="20" y="36">Visits a second</text>
${rows.join('\n')}
<text class="title" x="20" y="${top - 16}">Commands to Redis a visit, by connections</text>
${[0, 0.5, 1]
  .map(
    (tick) =>
      `<line class="axis" x1="${left}" x2="${width - 60}" y1="${y(tick)}" y2="${y(tick)}"/>` +
      `<text x="${left - 10}" y="${y(tick) + 4}" text-anchor="end">${tick}</text>`,
  )
  .join('')}
<polyline class="line" points="${line}"/>
${points
  .map(
    ({ connections, commands }, i) =>
      `<circle class="ours" cx="${x(i).toFixed(1)}" cy="${y(commands).toFixed(1)}" r="4"/>` +
      `<text x="${x(i)}" y="${y(commands) - 10}" text-anchor="middle">${commands.toFixed(2)}</text>` +
      `<text x="${x(i)}" y="${top + height + 22}" text-anchor="middle">${connections}</text>`,
  )
  .join('\n')}
</svg>
`;
}
