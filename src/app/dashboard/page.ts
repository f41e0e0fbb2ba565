import type { Plot } from './plot.ts';

/** The page of the plots. plots.js draws them. Links are relative, as an editor's preview needs them. */
export const dashboardPage = (plots: Plot[]) => `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>Plots</title>
  <link rel="icon" href="favicon.svg">
  <link rel="stylesheet" href="dashboard/vendor/uPlot-df630c6a.css">
  <link rel="stylesheet" href="dashboard/dashboard.css">
  <script defer src="dashboard/vendor/uPlot-19c8d4c6.js"></script>
  <script type="module" src="dashboard/plots.js"></script>
</head>
<body>
  <header>
    <h1>Plots</h1>
    <button type="button" id="pause" aria-pressed="false" disabled>Pause</button>
    <p id="state" role="status">connecting</p>
    <a href=".">the number</a>
  </header>
  <noscript><p>The plots are drawn by a script. The links below give the same data as CSV.</p></noscript>
  <main>
${plots.map(figure).join('\n')}
  </main>
  <section aria-labelledby="events">
    <h2 id="events">Marked in the plots</h2>
    <ol id="marks"><li>nothing in the last 15 minutes</li></ol>
  </section>
</body>
</html>
`;

const figure = ({ name, title, unit, bars = false, choices }: Plot) => `
    <figure id="${escapeHtml(name)}" data-unit="${escapeHtml(unit)}" data-bars="${bars}">
      <figcaption>
        <h2>${escapeHtml(title)} <small>${escapeHtml(unit)}</small></h2>
        <p class="now">loading</p>
      </figcaption>
      <div class="plot" tabindex="0" role="img" aria-label="${escapeHtml(title)}: loading"></div>
      <p class="tools">
        ${choices ? select(title, choices) : ''}
        <button type="button" class="reset" disabled>Reset zoom</button>
        <a class="csv" href="dashboard/${escapeHtml(name)}.csv" download>CSV<span> of ${escapeHtml(title)}</span></a>
      </p>
      <details>
        <summary>As a table<span>: ${escapeHtml(title)}</span></summary>
        <table></table>
      </details>
    </figure>`;

function select(title: string, choices: Record<string, string>): string {
  const options = Object.entries(choices).map(
    ([value, text]) => `<option value="${escapeHtml(value)}">${escapeHtml(text)}</option>`,
  );
  return `<select aria-label="${escapeHtml(title)}">${options.join('')}</select>`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}
