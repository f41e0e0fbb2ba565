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

const route = `router.get('/hello', (ctx) => {
  ctx.body = 'Hello!\\n';
});`;

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
    <p class="live">
      <span id="state" role="status"></span>
      <button type="button" id="pause" aria-pressed="false" disabled>Pause</button>
    </p>
    <p>Each visit is counted once, by whichever worker answers it. This one was answered by worker ${process.pid}.</p>
    <section>
      <h2>Write a route</h2>
      <pre tabindex="0"><code>${route}</code></pre>
      <p>Put it into <code>src/app/routes.ts</code>, save, and open <a href="hello">/hello</a>.</p>
    </section>
    <section>
      <h2>Look at it</h2>
      <p>The <a href="dashboard">dashboard</a> draws what <code>src/app/plots.ts</code> says: how many visits there are, how
      long they take, and whatever your data have to show.</p>
    </section>
    <section>
      <h2>Read on</h2>
      <p><code>README.md</code> says how to make it yours, and <code>docs/your-service.md</code> what a service can do.</p>
    </section>
  </main>
</body>
</html>
`;
