/** The page, which its script fills. Links are relative, as an editor's preview under a path prefix needs them. */
export const dashboardPage = (files: string[]) => `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>Dashboard</title>
  <link rel="icon" href="favicon.svg">
${files.map(link).join('\n')}
</head>
<body>
  <header>
    <h1>Dashboard</h1>
    <p id="state" role="status">connecting</p>
    <button type="button" id="pause" aria-pressed="false">Pause</button>
    <nav><a href=".">The service</a></nav>
  </header>
  <noscript><p>The figures are drawn by a script.</p></noscript>
  <section id="controls" class="controls" aria-label="Controls"></section>
  <main></main>
  <footer><p id="scope"></p></footer>
</body>
</html>
`;

const link = (file: string) =>
  file.endsWith('.css')
    ? `  <link rel="stylesheet" href="dashboard/static/${file}">`
    : `  <script type="module" src="dashboard/static/${file}"></script>`;
