/** Any requests, well-formed or not, but bounded: what a fuzzer sends. */
import * as fc from 'fast-check';
import { sample } from '../support/judgement.ts';

const crlf = '\r\n';

/** Characters that HTTP gives a meaning to are as likely as all others together. */
const latin1 = (maxLength: number) =>
  fc
    .array(
      fc.oneof(
        fc.constantFrom(...'\r\n\t\0 :;,/?#%&=@[]{}"\\<>()*+-.0aZ\x7f\x80\xff'),
        fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
      ),
      { maxLength },
    )
    .map((characters) => characters.join(''));

const token = fc.stringMatching(/^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}$/);
const text = fc.stringMatching(/^[ -~]{0,60}$/);

const method = fc.oneof(
  { weight: 6, arbitrary: fc.constant('GET') },
  {
    weight: 3,
    arbitrary: fc.constantFrom('HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'CONNECT'),
  },
  { weight: 1, arbitrary: token },
  { weight: 1, arbitrary: latin1(10) },
);

const target = fc.oneof(
  { weight: 4, arbitrary: fc.constant(sample.path) },
  { weight: 2, arbitrary: fc.webQueryParameters().map((query) => `${sample.path}?${query}`) },
  { weight: 1, arbitrary: fc.webPath().map((path) => `/${path}`) },
  { weight: 1, arbitrary: fc.webUrl() },
  {
    weight: 1,
    arbitrary: fc
      .array(fc.constantFrom('/', '..', '.', '%2e', '%2f', '%00', '%', 'a', '//'))
      .map((parts) => parts.join('')),
  },
  { weight: 1, arbitrary: latin1(40) },
);

const version = fc.oneof(
  { weight: 12, arbitrary: fc.constant('HTTP/1.1') },
  { weight: 2, arbitrary: fc.constant('HTTP/1.0') },
  { weight: 1, arbitrary: fc.constantFrom('HTTP/0.9', 'HTTP/2.0', 'HTTP/1', 'http/1.1', '') },
  { weight: 1, arbitrary: latin1(10) },
);

const value = fc.oneof(
  { weight: 3, arbitrary: text },
  { weight: 1, arbitrary: latin1(40) },
  { weight: 1, arbitrary: fc.integer().map(String) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('a'.repeat(7_000), 'a'.repeat(9_000), 'close', 'keep-alive', 'chunked'),
  },
);

const field = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.tuple(
      fc.constantFrom(
        ...[
          'Accept',
          'Accept-Encoding',
          'Authorization',
          'Connection',
          'Content-Type',
          'Cookie',
          'Expect',
          'Forwarded',
        ],
        ...['If-Modified-Since', 'If-None-Match', 'Keep-Alive', 'Range', 'TE', 'Trailer', 'Upgrade', 'Via'],
        ...[
          'X-Forwarded-For',
          'X-Forwarded-Host',
          'X-Forwarded-Proto',
          'X-HTTP-Method-Override',
          'X-Request-ID',
        ],
      ),
      value,
    ),
  },
  { weight: 1, arbitrary: fc.tuple(token, value) },
  { weight: 1, arbitrary: fc.tuple(latin1(10), value) },
);

const host = fc.oneof(
  { weight: 8, arbitrary: fc.constant(`Host: localhost${crlf}`) },
  { weight: 1, arbitrary: value.map((name) => `Host: ${name}${crlf}`) },
  { weight: 1, arbitrary: fc.constant('') },
);

const size = fc.integer({ min: 0, max: 20_000 });
const content = fc.oneof(
  latin1(60),
  size.map((length) => 'a'.repeat(length)),
);

/** The last fields and the body. */
const body = fc.oneof(
  { weight: 5, arbitrary: fc.constant(crlf) },
  { weight: 2, arbitrary: content.map((data) => `Content-Length: ${data.length}${crlf}${crlf}${data}`) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.oneof(size.map(String), value), content)
      .map(([length, data]) => `Content-Length: ${length}${crlf}${crlf}${data}`),
  },
  {
    weight: 2,
    arbitrary: fc.array(content, { maxLength: 3 }).map((chunks) => {
      const parts = [...chunks.filter((chunk) => chunk !== ''), ''];
      const data = parts.map((chunk) => `${chunk.length.toString(16)}${crlf}${chunk}${crlf}`).join('');
      return `Transfer-Encoding: chunked${crlf}${crlf}${data}`;
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(value, latin1(60))
      .map(([coding, data]) => `Transfer-Encoding: ${coding}${crlf}${crlf}${data}`),
  },
);

const wanted = Object.entries(sample.headers)
  .map((header) => `${header.join(': ')}${crlf}`)
  .join('');

const wellFormed = fc
  .tuple(method, target, version, host, fc.array(field, { maxLength: 4 }), body)
  .map(([verb, path, protocol, name, fields, rest]) => {
    const others = fields.map((header) => `${header.join(': ')}${crlf}`).join('');
    return `${verb} ${path} ${protocol}${crlf}${name}${wanted}${others}${rest}`;
  });

/** A few bytes of it are others, or its end is missing. */
const damaged = fc
  .tuple(wellFormed, fc.array(fc.tuple(fc.nat(500), latin1(3)), { minLength: 1, maxLength: 3 }), fc.boolean())
  .map(([bytes, changes, cut]) => {
    let result = bytes;
    for (const [at, by] of changes) result = result.slice(0, at) + by + result.slice(at + by.length);
    return cut ? result.slice(0, changes[0]?.[0]) : result;
  });

export const anyRequest = fc.oneof(
  { weight: 6, arbitrary: wellFormed },
  { weight: 2, arbitrary: damaged },
  { weight: 1, arbitrary: fc.tuple(wellFormed, wellFormed).map((two) => two.join('')) },
  { weight: 1, arbitrary: latin1(200) },
);
