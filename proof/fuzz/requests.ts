import fc from "fast-check";
import { bytesOf, latin1, type WireRequest } from "./wire.ts";

/** A path in the API's description. */
export interface Route {
  /** `/users/{id}`. */
  readonly path: string;
  /** `GET`. */
  readonly method: string;
  /** The names of its query parameters. */
  readonly query: readonly string[];
}

/** One request or sequence of bytes. */
export type Case =
  | { readonly kind: "request"; readonly request: WireRequest }
  | { readonly kind: "raw"; readonly bytes: Uint8Array<ArrayBuffer> };

/** Values that have broken programs before. */
const NASTY = [
  "0",
  "-0",
  "-1",
  "+1",
  "00",
  "01",
  "1.0",
  "1.",
  ".5",
  "1e1",
  "1E0",
  "1e400",
  "0x1",
  "0b1",
  "1n",
  "1_0",
  " 1",
  "1 ",
  "1\t",
  "١",
  "１",
  "²",
  "Ⅷ",
  "१२",
  "2147483647",
  "2147483648",
  "4294967297",
  "-2147483648",
  "9007199254740993",
  "99999999999999999999",
  "1".repeat(400),
  "NaN",
  "Infinity",
  "null",
  "undefined",
  "true",
  "[object Object]",
  "__proto__",
  "constructor",
  "toString",
  "..",
  ".",
  "...",
  "%",
  "%00",
  "%2e%2e",
  "1;DROP TABLE users",
  "1' OR '1'='1",
  "1); DELETE FROM users; --",
  "$1",
  "1/**/",
  "\\'; SELECT pg_sleep(9)",
  "*1\r\n$8\r\nFLUSHALL\r\n",
  "\r\nSET a b\r\n",
  "FLUSHALL",
  "{users:1}",
  "la:1:{users:1}",
  "users:1",
  "users:1}",
  "}{",
  "{}",
  "users:/page=1&limit=10",
  "*",
  "1\0",
  "\0",
  "\r\nset-cookie: a=b",
  "\n",
  "\u2028",
  "\ufeff1",
  "\u202e1",
  "👍",
  "e\u0301",
  "<script>alert(1)</script>",
  "../../etc/passwd",
  "file:///etc/passwd",
  "a".repeat(5_000),
];

const anyText = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...NASTY) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 60 }).map(String) },
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
  fc.double().map(String),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.tuple(fc.integer({ min: 1, max: 60 }), fc.constantFrom(...NASTY)).map((pair) => pair.join("")),
);

const id = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: 1, max: 60 }).map(String) },
  // The users that were created during the run: those of the start are soon deleted.
  { weight: 3, arbitrary: fc.integer({ min: 61, max: 2_000 }).map(String) },
  { weight: 4, arbitrary: anyText },
);

const field = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom("Jane", "a@b.co", "x".repeat(100), "👍".repeat(100)) },
  { weight: 2, arbitrary: anyText },
  fc.constantFrom(
    "",
    "x".repeat(101),
    "👍".repeat(101),
    "a\0b",
    "\ud800",
    "a@b",
    "a b@c.de",
    "a@b.co\n",
  ),
  fc.string({ unit: "binary", maxLength: 120 }),
  fc.jsonValue({ maxDepth: 2 }),
);

const goodBody = fc.record({
  name: fc.oneof(fc.constant("Jane"), fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 })),
  email: fc.oneof(fc.constant("a@b.co"), fc.emailAddress()),
  bio: fc.option(fc.string({ unit: "grapheme", maxLength: 60 })),
});

const jsonBody = fc.oneof(
  { weight: 4, arbitrary: goodBody },
  {
    weight: 3,
    arbitrary: fc.record({ name: field, email: field, bio: field }, { requiredKeys: [] }),
  },
  fc.record({ name: fc.constant("Jane"), email: fc.constant("a@b.co"), id: field, role: field }),
  fc.jsonValue(),
).map((value) => JSON.stringify(value));

const body = fc.oneof(
  { weight: 6, arbitrary: jsonBody.map((text) => new TextEncoder().encode(text)) },
  fc.constantFrom(
    new TextEncoder().encode('{"__proto__":{"name":"x"},"name":"Jane","email":"a@b.co"}'),
    new TextEncoder().encode('{"name":"Jane","email":"a@b.co","name":"\\u0000"}'),
    new TextEncoder().encode('\ufeff{"name":"Jane","email":"a@b.co"}'),
    new TextEncoder().encode("[".repeat(30_000)),
    new TextEncoder().encode(`{"name":"Jane","email":"a@b.co","bio":"${"x".repeat(66_000)}"}`),
    new Uint8Array(0),
  ),
  { weight: 2, arbitrary: fc.uint8Array({ maxLength: 80 }).map((bytes) => Uint8Array.from(bytes)) },
);

/** Visible ASCII and obs-text of HTTP: the valid characters of a header. */
const headerValue = fc.string({
  unit: fc.constantFrom(..."\tab1 ,;=\"'*/%{}\xff\x80".split("")),
  maxLength: 30,
})
  .map((text) => text.trim());

const header: fc.Arbitrary<readonly [string, string]> = fc.oneof(
  fc.tuple(
    fc.constantFrom(
      "content-encoding",
      "if-none-match",
      "accept",
      "accept-encoding",
      "authorization",
      "range",
    ),
    fc.oneof(
      headerValue,
      fc.constantFrom("gzip", "identity", "*", 'W/"x"', "Bearer x", "bytes=0-1"),
    ),
  ),
  fc.tuple(
    fc.constantFrom(
      "x-forwarded-for",
      "x-forwarded-host",
      "origin",
      "cookie",
      "referer",
      "x-http-method-override",
    ),
    fc.oneof(
      headerValue,
      fc.constantFrom("127.0.0.1", "a".repeat(4_000), "https://a.example", "DELETE"),
    ),
  ),
);

const contentType = fc.oneof(
  { weight: 6, arbitrary: fc.constant("application/json") },
  fc.constantFrom(
    "application/json; charset=utf-8",
    "APPLICATION/JSON",
    "application/json; charset=latin1",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "",
  ),
  headerValue,
);

/** Variants of a text in a URL: encoded, encoded twice, wrongly, or not at all if permitted. */
const inUrl = (text: fc.Arbitrary<string>) =>
  fc.tuple(text, fc.integer({ min: 0, max: 9 })).map(([given, how]) => {
    const encoded = encodeURIComponent(given.toWellFormed());
    if (how === 0) return encodeURIComponent(encoded);
    if (how === 1) return encoded.toLowerCase();
    if (how === 2) return `${encoded}%c0%af`;
    if (how === 3) return `${encoded}%`;
    if (how === 4) return [...new TextEncoder().encode(given)].map(percent).join("");
    return encoded;
  });

/** Requests of every kind and combination: those of the description, and others. */
export function cases(routes: readonly Route[]): fc.Arbitrary<Case> {
  const request = wellFormed(routes);
  return fc.oneof(
    { weight: 17, arbitrary: request.map((each): Case => ({ kind: "request", request: each })) },
    { weight: 3, arbitrary: raw(request).map((bytes): Case => ({ kind: "raw", bytes })) },
  );
}

function wellFormed(routes: readonly Route[]): fc.Arbitrary<WireRequest> {
  const methods = fc.constantFrom(
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "FOO",
    "get",
  );
  // Users matter most.
  const route = fc.oneof(
    {
      weight: 2,
      arbitrary: fc.constantFrom(...routes.filter(({ path }) => path.startsWith("/users"))),
    },
    fc.constantFrom(...routes),
  );
  return route.chain((route) => {
    const names = fc.constantFrom(
      ...route.query,
      "page",
      "limit",
      "after",
      "ids",
      "x",
      "page[]",
      "__proto__",
      "",
    );
    const list = fc.array(anyText, { maxLength: 4 }).map((texts) => texts.join(","));
    const parameters = fc.array(fc.tuple(names, inUrl(fc.oneof(anyText, list))), { maxLength: 3 });
    // A route that has none refuses them before it looks at anything else.
    const query = route.query.length > 0
      ? parameters
      : fc.oneof({ weight: 9, arbitrary: fc.constant([]) }, parameters);
    return fc.record({
      method: fc.oneof({ weight: 8, arbitrary: fc.constant(route.method) }, methods),
      target: fc.tuple(
        inUrl(id),
        query,
        fc.oneof(
          { weight: 12, arbitrary: fc.constant("") },
          fc.constantFrom("/", "//", "/..", ";a=b"),
        ),
      ).map(
        ([segment, pairs, end]) => {
          const path = route.path.replaceAll(/\{[^}]+\}/g, () => segment);
          const search = pairs.map(([name, text]) => `${name}=${text}`).join("&");
          return `${path}${end}${search === "" ? "" : `?${search}`}`;
        },
      ),
      headers: fc.tuple(contentType, fc.array(header, { maxLength: 3 })).map(([type, others]) =>
        type === "" ? others : [["content-type", type] as const, ...others]
      ),
      body: route.method === "GET"
        ? fc.oneof({ weight: 9, arbitrary: fc.constant(new Uint8Array(0)) }, body)
        : body,
    });
  });
}

/** Bytes that no HTTP client would send. */
function raw(request: fc.Arbitrary<WireRequest>): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const bytes = request.map(bytesOf);
  const spliced = fc.tuple(bytes, fc.nat(), fc.nat({ max: 8 }), fc.constantFrom(...NASTY)).map(
    ([given, at, gone, text]) => {
      const from = at % (Math.min(given.length, 300) + 1);
      return joined(given.slice(0, from), latin1(text), given.slice(from + gone));
    },
  );
  return fc.oneof(
    { weight: 5, arbitrary: spliced },
    {
      weight: 2,
      arbitrary: fc.tuple(bytes, fc.nat()).map(([given, at]) => given.slice(0, at % given.length)),
    },
    { weight: 2, arbitrary: fc.tuple(bytes, bytes).map(([a, b]) => joined(a, b)) },
    fc.uint8Array({ maxLength: 200 }).map((given) => Uint8Array.from(given)),
    fc.constantFrom(...RAW).map(latin1),
  );
}

/** Requests that contradict themselves or the grammar. */
const RAW = [
  "GET /users/1 HTTP/1.1\r\n\r\n",
  "GET /users/1 HTTP/1.0\r\n\r\n",
  "GET /users/1 HTTP/9.9\r\nhost: a\r\n\r\n",
  "GET /users/1\r\n\r\n",
  "GET  /users/1 HTTP/1.1\r\nhost: a\r\n\r\n",
  "GET users/1 HTTP/1.1\r\nhost: a\r\n\r\n",
  "GET http://elsewhere.example/users/1 HTTP/1.1\r\nhost: a\r\n\r\n",
  "GET * HTTP/1.1\r\nhost: a\r\n\r\n",
  "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
  "CONNECT localhost:6379 HTTP/1.1\r\nhost: localhost:6379\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nhost: \x00\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nhost: a b<>[]\r\n\r\n",
  "GET /users/1\x00 HTTP/1.1\r\nhost: a\r\n\r\n",
  "GET /users/\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n",
  "GET /users/1 HTTP/1.1\nhost: a\n\n",
  "GET /users/1 HTTP/1.1\r\nhost: a\r\n folded: x\r\n\r\n",
  `GET /users/1 HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(200_000)}\r\n\r\n`,
  `GET /users/1 HTTP/1.1\r\nhost: a\r\n${"x: y\r\n".repeat(2_000)}\r\n`,
  `GET /${"a".repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`,
  `${"A".repeat(50_000)} / HTTP/1.1\r\nhost: a\r\n\r\n`,
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: -1\r\n\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1e1\r\n\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99999999999999999999\r\n\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
  "PUT /users/1 HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nhost: a\r\nexpect: 200-maybe\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: x\r\n\r\n",
  "GET /users/1 HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\nconnection: upgrade, http2-settings\r\n\r\n",
  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
  "*1\r\n$4\r\nPING\r\n",
  "\x00\x00\x00\x08\x04\xd2\x16\x2f",
  "\r\n\r\n\r\n",
  "",
];

function joined(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function percent(byte: number): string {
  return `%${byte.toString(16).padStart(2, "0")}`;
}
