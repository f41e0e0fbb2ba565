// Runs in the editor under test: calls the functions that come over a socket (editor.ts) with the editor's API.
const { existsSync, rmSync } = require('node:fs');
const { createServer } = require('node:net');
const { createInterface } = require('node:readline');
const vscode = require('vscode');

const socketPath = process.env.EDITOR_BRIDGE;
/** Lives as long as the editor: where one call leaves what a later one asks for. */
const state = {};

exports.activate = (context) => {
  if (existsSync(socketPath)) rmSync(socketPath); // of an extension host before this one
  const server = createServer((connection) => {
    connection.on('error', () => {}); // the test is gone
    createInterface({ input: connection }).on('line', async (line) => {
      const { id, body, argument } = JSON.parse(line);
      let answer;
      try {
        const value = await new Function(`return (${body})`)()({ vscode, state }, argument);
        answer = { id, value };
      } catch (error) {
        answer = { id, error: error?.stack ?? String(error) };
      }
      connection.write(`${JSON.stringify(answer)}\n`);
    });
  });
  server.listen(socketPath);
  context.subscriptions.push({ dispose: () => server.close() });
};
