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
  <style>
    :root { color-scheme: light dark; font: 1.25rem system-ui, sans-serif; }
    body { display: grid; place-content: center; min-height: 90vh; text-align: center; }
    strong { display: block; font-size: 6rem; font-variant-numeric: tabular-nums; }
  </style>
</head>
<body>
  <p>I've been seen <strong>${hits}</strong> times.</p>
</body>
</html>
`;
