import { connect } from "@db/driver";
import { assert, assertEquals, assertFalse, assertMatch, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { CacheClosedError, LoadRejectedError, LoadTimeoutError } from "../../cache/mod.ts";
import { DatabaseUnavailableError } from "../../db/database.ts";
import { requiredEnv } from "../support/test_database.ts";
import { createApi, type SendInit } from "./api_fixture.ts";

const valid = { name: "Jane", email: "jane@example.com" };
const badIds = [
  ...["abc", "0", "-1", "+1", "1.5", "1e3", "01", "0x10", "1_0", "%20", "1%20", "%00", "1%00"],
  ...["2147483648", "99999999999999999999", "NaN", "Infinity", "%D9%A1", "%EF%BC%91", "%", "%FF"],
];
/** Each with the paths of its issues. */
const badQueries: readonly (readonly [query: string, paths: readonly string[]])[] = [
  ...["0", "-1", "abc", "1.5", "", "01", "1e3", "%2B1", "%201", "2147483648"]
    .map((page) => [`page=${page}`, ["page"]] as const),
  ...["0", "101", "-5", "abc", ""].map((limit) => [`limit=${limit}`, ["limit"]] as const),
  ...["-1", "abc", "", "2147483648"].map((after) => [`after=${after}`, ["after"]] as const),
  ["page=-1&limit=0", ["page", "limit"]],
  ["page=21474838&limit=100&after=", ["after"]],
  ["page=10002&limit=10", ["page"]],
  ["page=2147483647&limit=2", ["page"]],
  ["page=1&page=2", ["page"]],
  ["ids=1&ids=2", ["ids"]],
  ["after=1&page=2", ["page"]],
  ["ids=1&page=1", ["page"]],
  ["ids=1&limit=5", ["limit"]],
  ["ids=1&after=5", ["after"]],
  ["ids=", ["ids.0"]],
  ["ids=1,", ["ids.1"]],
  ["ids=1,x,0", ["ids.1", "ids.2"]],
  [`ids=${Array.from({ length: 101 }, (_, at) => at + 1)}`, ["ids"]],
];

/** Bodies that neither PUT nor PATCH takes, each with the paths of its issues. */
const badBodies: readonly (readonly [body: unknown, paths: readonly string[]])[] = [
  [[], [""]],
  ["null", [""]],
  ["5", [""]],
  ['"text"', [""]],
  ["", [""]],
  ["{", [""]],
  ["{'name':1}", [""]],
  ['{"name":"a"}{}', [""]],
  ["[".repeat(60_000), [""]],
  // Latin-1: read as UTF-8, the ü would become a replacement character.
  [Uint8Array.from('{"name":"Jürgen","email":"a@b.co"}', (unit) => unit.charCodeAt(0)), [""]],
  [{ ...valid, name: "" }, ["name"]],
  [{ ...valid, name: "x".repeat(101) }, ["name"]],
  [{ ...valid, name: "👍".repeat(101) }, ["name"]],
  [{ ...valid, name: 5 }, ["name"]],
  [{ ...valid, name: null }, ["name"]],
  [{ ...valid, name: "a\0b" }, ["name"]],
  [`{"name":"\\ud800","email":"a@b.co"}`, ["name"]],
  ...["no address", "@b.co", "a@", "a@b", "a@b.", "a@.co", "a b@c.co", "a@b@c.co", ".a@b.co"]
    .map((email) => [{ ...valid, email }, ["email"]] as const),
  ...["a..b@c.co", "a@b..co", "a@-b.co", "a\n@b.co", "a@b.co\n", "<a@b.co>"]
    .map((email) => [{ ...valid, email }, ["email"]] as const),
  [{ ...valid, email: `${"x".repeat(95)}@a.com` }, ["email"]],
  [{ ...valid, bio: 5 }, ["bio"]],
  [{ ...valid, bio: "a\0b" }, ["bio"]],
  [{ ...valid, bio: ["x"] }, ["bio"]],
  [{ ...valid, role: "admin", id: 7 }, ["role", "id"]],
  [`{"name":"Jane","email":"a@b.co","__proto__":{"role":"admin"}}`, ["__proto__"]],
];

describe("createApp() answers 400 before anything is touched", () => {
  for (const id of badIds) {
    for (const method of ["GET", "PUT", "PATCH", "DELETE"]) {
      it(`for ${method} /users/${id}`, async () => {
        const body = method === "PUT" || method === "PATCH" ? { body: valid } : {};
        await refuses(`/users/${id}`, { method, ...body }, ["id"]);
      });
    }
  }
  for (const [query, paths] of badQueries) {
    it(`for GET /users?${query.slice(0, 40)}`, async () => {
      await refuses(`/users?${query}`, {}, paths);
    });
  }
  for (const [body, paths] of badBodies) {
    const shown = typeof body === "string" || body instanceof Uint8Array
      ? String(body)
      : JSON.stringify(body);
    for (const [method, path] of [["POST", "/users"], ["PUT", "/users/1"], ["PATCH", "/users/1"]]) {
      it(`for ${method} ${path} ${shown.slice(0, 50)}`, async () => {
        await refuses(path ?? "", { method: method ?? "", body }, paths);
      });
    }
  }
  for (const [body, paths] of [[{}, ["name", "email"]], [{ name: "J" }, ["email"]]] as const) {
    it(`for a PUT and a POST that lack ${paths}`, async () => {
      await refuses("/users/1", { method: "PUT", body }, paths);
      await refuses("/users", { method: "POST", body }, paths);
    });
  }
  it("for a PATCH that changes nothing", async () => {
    await refuses("/users/1", { method: "PATCH", body: {} }, [""]);
  });
  it("and lists no more than 20 issues, none of them long", async () => {
    await using api = createApi();
    const junk = Object.fromEntries(
      Array.from({ length: 50 }, (_, at) => [`${at}${"k".repeat(1_000)}`, at]),
    );
    const answer = await api.send("/users/1", { method: "PUT", body: { ...valid, ...junk } });
    const { issues } = await answer.json();
    assertEquals(issues.length, 20);
    assert(JSON.stringify(issues).length < 4_000);
  });

  async function refuses(path: string, init: SendInit, paths: readonly string[]): Promise<void> {
    await using api = createApi();
    const answer = await api.send(path, init);
    const text = await answer.text();
    assertEquals(answer.status, 400, text);
    assertEquals(answer.headers.get("content-type"), "application/json");
    const { error, issues } = JSON.parse(text);
    assertEquals(error, "Invalid request");
    assertEquals(issues.map(({ path }: { path: string }) => path), paths, text);
    for (const { message } of issues) assertMatch(message, /^[A-Z]/);
    assertEquals([api.users.calls, api.cache.calls, api.errors], [[], [], []]);
  }
});

describe("createApp() answers 415 before anything is touched", () => {
  for (
    const headers of [
      { "content-type": "text/plain" },
      { "content-type": "application/x-www-form-urlencoded" },
      { "content-type": "application/json; charset=latin1" },
      { "content-type": "application/jsonp" },
      { "content-type": "application/merge-patch+json" },
      { "content-type": "application/json, text/plain" },
      { "content-type": "" },
      { "content-encoding": "gzip" },
    ]
  ) {
    it(`for ${JSON.stringify(headers)}`, async () => {
      await using api = createApi();
      for (
        const [method, path] of [["POST", "/users"], ["PUT", "/users/1"], ["PATCH", "/users/1"]]
      ) {
        const answer = await api.send(path ?? "", { method: method ?? "", body: valid, headers });
        assertEquals(answer.status, 415);
        // RFC 9110, 12.5.3: tells a coding from a type.
        const isCoded = "content-encoding" in headers;
        assertEquals(answer.headers.get("accept-encoding"), isCoded ? "identity" : null);
        assertEquals(answer.headers.get("accept"), isCoded ? null : "application/json");
        assertMatch(
          (await answer.json()).error,
          isCoded ? /Content-Encoding/ : /application\/json/,
        );
      }
      assertEquals([api.users.calls, api.cache.calls], [[], []]);
    });
  }
});

describe("createApp() answers 413 before anything is touched", () => {
  it("for a body whose length is announced, without reading it", async () => {
    await using api = createApi();
    const { request, read } = endless({ "content-length": "65537" });
    const answer = await api.fetch(request);
    assertEquals(answer.status, 413);
    assertEquals(await answer.json(), { error: "Body exceeds 65536 bytes" });
    assertEquals(read.cancelled, false);
    assert(read.chunks <= 1, `${read.chunks} chunks`);
    assertEquals([api.users.calls, api.cache.calls], [[], []]);
  });

  it("for a body whose length is not announced, and reads no further than the bound", async () => {
    await using api = createApi();
    const { request, read } = endless({});
    const answer = await api.fetch(request);
    assertEquals(answer.status, 413);
    assert(read.cancelled);
    assert(read.chunks < 10, `${read.chunks} chunks`);
    assertEquals([api.users.calls, api.cache.calls], [[], []]);
  });

  it("and 408 for a body that breaks off", async () => {
    await using api = createApi();
    const broken = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.error(new Error("connection reset")),
    });
    const request = new Request("http://localhost/users", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: broken,
    });
    const answer = await api.fetch(request);
    assertEquals([answer.status, api.errors, api.users.calls], [408, [], []]);
  });

  /** A request whose body never ends, and what was read of it. */
  function endless(headers: Record<string, string>) {
    const chunk = new Uint8Array(16 * 1024).fill(0x20);
    const read = { chunks: 0, cancelled: false };
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        read.chunks++;
        controller.enqueue(chunk);
      },
      cancel() {
        read.cancelled = true;
      },
    });
    const request = new Request("http://localhost/users/1", {
      method: "PUT",
      headers: { "content-type": "application/json", ...headers },
      body,
    });
    return { request, read };
  }
});

describe("createApp() answers 404", () => {
  for (
    const path of ["/nowhere", "/users/", "/users/1/", "/users/1/posts", "/user", "//"]
  ) {
    it(`for ${path}`, async () => {
      await using api = createApi();
      for (const method of ["GET", "POST", "DELETE"]) {
        const answer = await api.send(path, { method });
        assertEquals(answer.status, 404);
        assertEquals(await answer.json(), { error: "Not found" });
      }
    });
  }
});

describe("createApp() answers 405 and says what is allowed", () => {
  const cases = [
    ["POST", "/users/1", "DELETE, GET, HEAD, PATCH, PUT"],
    ["OPTIONS", "/users/1", "DELETE, GET, HEAD, PATCH, PUT"],
    ["DELETE", "/users", "GET, HEAD, POST"],
    ["PUT", "/users", "GET, HEAD, POST"],
    ["GET", "/cache", "DELETE"],
    ["HEAD", "/cache", "DELETE"],
    ["DELETE", "/cache/stats", "GET, HEAD"],
    ["POST", "/healthz", "GET, HEAD"],
    ["PROPFIND", "/readyz", "GET, HEAD"],
  ] as const;
  for (const [method, path, allow] of cases) {
    it(`for ${method} ${path}`, async () => {
      await using api = createApi();
      const answer = await api.send(path, { method });
      assertEquals([answer.status, answer.headers.get("allow")], [405, allow]);
      if (method !== "HEAD") assertEquals(await answer.json(), { error: "Method not allowed" });
      assertEquals([api.users.calls, api.cache.calls], [[], []]);
    });
  }
});

describe("createApp(), when the database or the cache fails,", () => {
  const requests = [
    ["GET", "/users/1"],
    ["GET", "/users"],
    ["GET", "/users?after=3"],
    ["GET", "/users?ids=1,2"],
    ["POST", "/users"],
    ["PUT", "/users/1"],
    ["PATCH", "/users/1"],
    ["DELETE", "/users/1"],
  ] as const;

  for (
    const failure of [
      new DatabaseUnavailableError("Cannot query: SELECT secret FROM users"),
      new LoadRejectedError("Cannot load users:1: queue full"),
      new LoadTimeoutError("Cannot load users:1: too slow"),
      new CacheClosedError("Cannot read: closed"),
    ]
  ) {
    it(`answers 503 with Retry-After to ${failure.name}, and reports it`, async () => {
      for (const [method, path] of requests) {
        await using api = createApi();
        api.users.failure = failure;
        const answer = await api.send(path, withBody(method));
        assertEquals(answer.status, 503, `${method} ${path}`);
        assertMatch(answer.headers.get("retry-after") ?? "", /^\d+$/);
        assertEquals(await answer.json(), { error: "Service unavailable" });
        const [report, ...others] = api.errors;
        assertEquals([report?.error, others], [failure, []]);
        assertEquals(report?.context, { method, path: path.split("?")[0] ?? "", status: 503 });
      }
    });
  }

  for (const part of ["username", "pathname"] as const) {
    it(`answers 503 to a login that Postgres refuses: another ${part}`, async () => {
      const url = new URL(requiredEnv("DATABASE_URL"));
      url[part] = "none_of_that_name";
      await using database = connect({ url: url.href });
      const failure = await assertRejects(() => database.query("SELECT 1"), Error);
      await using api = createApi();
      api.users.failure = failure;
      const answer = await api.send("/users/1");
      assertEquals([answer.status, answer.headers.get("retry-after")], [503, "1"]);
      assertEquals(api.errors.map(({ error }) => error), [failure]);
    });
  }

  it("answers 500 to anything else, telling the listener all and the client nothing", async () => {
    for (const [method, path] of requests) {
      await using api = createApi();
      api.users.failure = new TypeError("SELECT secret at file.ts:1:1");
      const answer = await api.send(path, withBody(method));
      const text = await answer.text();
      assertEquals([answer.status, text], [500, '{"error":"Internal Server Error"}']);
      assertEquals(answer.headers.get("content-type"), "application/json");
      assertEquals(api.errors.map(({ error }) => error), [api.users.failure]);
    }
  });

  it("does not invalidate what a write failed to change, so that reads go on", async () => {
    await using api = createApi();
    await api.send("/users/1");
    api.users.failure = new DatabaseUnavailableError("down");
    for (const method of ["PUT", "PATCH", "DELETE"]) {
      assertEquals((await api.send("/users/1", withBody(method))).status, 503);
    }
    const read = await api.send("/users/1");
    assertEquals([read.status, (await read.json()).source], [200, "cache"]);
    assertFalse(api.cache.calls.some((call) => /delete|invalidate/.test(call)));
  });

  function withBody(method: string): SendInit {
    return method === "GET" || method === "DELETE" ? { method } : { method, body: valid };
  }
});
