import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) => /\.ts$/.test(file));

function codeOf(file: string): string {
  return readFileSync(join('src', file), 'utf8')
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|\s)\/\/.*$/gm, '');
}

/** What reaches behind the documented interface of Node or throng; the group is its name. */
const patterns = [
  /\b(_\w*[a-z]\w*)/g, // private by convention
  /\b(?:process\.binding|internalBinding|node:internal\S*)/g,
  /\bexitedAfterDisconnect(?=\s*=[^=])/g, // to be read only
  /(?:\w+\.)?(\w+\.prototype\.\w+)/g,
  /\bObject\.(?:assign|definePropert\w+)\((?:cluster|process|net|http)\b/g,
  /\b(?:cluster|process|net|http)(?:\.\w+)?\.(?!title|exitedAfterDisconnect)\w+\s*=[^=>]/g, // replaced, as cluster.fork = …
  /\b(?:removeListener|removeAllListeners|off)\(/g, // somebody else's
  /\b(?:grace|signals)(?=:\s*[[\w])/g, // of throng
];

const found = files
  .filter((file) => !file.endsWith('.d.ts'))
  .flatMap((file) => {
    const code = codeOf(file);
    return patterns.flatMap((pattern) =>
      [...code.matchAll(pattern)].map((match) => `${file.replace('server/', '')}: ${match[1] ?? match[0]}`),
    );
  });

test('what is private to Node: five places, and the head of socket.ts lists them', () => {
  expect([...new Set(found)].sort()).toEqual([
    'http-server.ts: Server.prototype.close',
    'main.ts: exitedAfterDisconnect',
    'main.ts: signals',
    'socket.ts: Object.assign(cluster',
    'socket.ts: _createServerHandle',
  ]);
  const [head] = /^\/\*\*[\s\S]*?\*\//.exec(readFileSync('src/server/socket.ts', 'utf8')) ?? [''];
  const listed = [...head.matchAll(/^ \* - `([\w.]+)`/gm)].map(([, name]) => name);
  expect(listed).toEqual([
    '_createServerHandle',
    'isPrimary',
    'exitedAfterDisconnect',
    'net.Server.prototype.close',
    'signals',
  ]);
});

test('cluster.isPrimary is a lie for one call alone, and only there', () => {
  const code = codeOf('server/socket.ts');
  expect(code.match(/Object\.assign\(cluster/g)).toHaveLength(2);
  expect(code).toMatch(
    /const \{ isPrimary \} = cluster;\s+Object\.assign\(cluster, \{ isPrimary: true \}\);\s+try \{\s+server\.listen\(\w+, \w+\);\s+\} finally \{\s+Object\.assign\(cluster, \{ isPrimary \}\);/,
  );
});
