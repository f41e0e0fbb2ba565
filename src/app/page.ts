import type { Context } from 'koa';

/** Answers with the number of visits, as text, JSON or a page: whichever the client prefers. */
export function sendVisits(ctx: Context, hits: number): void {
  ctx.set('Cache-Control', 'no-store'); // a cache would answer visits without counting them
  ctx.vary('Accept');
  switch (ctx.accepts('text', 'json', 'html')) {
    case 'json':
      ctx.body = { hits };
      break;
    case 'html':
      ctx.body = page(hits);
      break;
    default:
      ctx.body = `I've been seen ${hits} times.\n`;
  }
}

// Links are relative, so that the page also works below a path prefix, as in an editor's preview.
const page = (hits: number) => `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width">
  <title>Visits</title>
  <link rel="icon" href="favicon.svg">
  <link rel="stylesheet" href="page.css">
  <script type="module" src="live.js"></script>
</head>
<body>
  <main>
    <h1>I've been seen <strong id="hits">${hits}</strong> times.</h1>
    <p><button type="button" id="pause" aria-pressed="false" disabled>Pause</button></p>
    <p id="state" role="status"></p>
    <p>Answered by worker ${process.pid}.</p>
    <p>Add a route in <code>src/app/routes.ts</code>; <code>docs/</code> explains the rest.</p>
    <p><a href="dashboard">Dashboard</a></p>
  </main>
</body>
</html>
`;
