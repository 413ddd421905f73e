/**
 * Whatever a client sends, the API answers it, and lets nothing invalid near the cache or the database.
 */
import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { type Api, createApi } from "../routes/api_fixture.ts";

const RUNS = 2_000;

/** An id as the contract words it, told without the code under test. */
function isUserId(text: string): boolean {
  return /^[1-9][0-9]{0,9}$/.test(text) && Number(text) <= 2_147_483_647;
}

/** Texts near a whole number, and any other. */
const numberLike = fc.oneof(
  fc.integer({ min: -5, max: 40 }).map(String),
  fc.constantFrom(
    "2147483647",
    "2147483648",
    "100",
    "101",
    "1e1",
    "01",
    "+1",
    " 1",
    "1.0",
    "０",
    "",
  ),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
  fc.double().map(String),
  fc.string({ unit: "binary", maxLength: 12 }),
);

const field = fc.oneof(
  { weight: 4, arbitrary: fc.string({ unit: "binary", maxLength: 120 }) },
  { weight: 2, arbitrary: fc.constantFrom("a@b.co", "Jane", "x".repeat(100), "👍".repeat(101)) },
  fc.constantFrom(null, "", "a\0b", "\ud800"),
  fc.jsonValue({ maxDepth: 2 }),
);

const body = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ name: field, email: field, bio: field }, { requiredKeys: [] }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ name: fc.string(), email: fc.emailAddress(), bio: field }),
  },
  fc.record({ name: fc.constant("Jane"), email: fc.constant("a@b.co"), role: field }),
  fc.jsonValue(),
).map((value) => JSON.stringify(value));

const rawBody = fc.oneof(body, fc.string({ unit: "binary" }), fc.json({ noUnicodeString: false }));

/** Whether Postgres can hold the text. */
function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes("\0");
}

describe("createApp(), given anything,", () => {
  // One for all runs: each looks only at what it did itself.
  let api: Api;
  beforeAll(() => {
    api = createApi();
  });
  afterAll(async () => await api[Symbol.asyncDispose]());

  it("answers each id with 200 or 404 if it is one, else with 400 and nothing touched", async () => {
    await check(fc.asyncProperty(numberLike, async (id) => {
      forget();
      const answer = await api.send(`/users/${encodeURIComponent(wellFormed(id))}`);
      if (isUserId(id)) {
        assertEquals(answer.status, Number(id) <= 30 ? 200 : 404);
      } else {
        // An empty segment, and dots that URLs resolve, are other paths.
        assert([400, 404, ...(id === "." || id === ".." ? [200] : [])].includes(answer.status));
        if (id !== "." && id !== "..") assertEquals(api.cache.calls, []);
      }
      assertEquals(api.errors, []);
    }));
  });

  it("answers each query with 200, or with 400 and nothing touched", async () => {
    const parameter = fc.tuple(
      fc.constantFrom("page", "limit", "after", "ids", "other", "__proto__", "page[]"),
      fc.oneof(numberLike, fc.array(numberLike, { maxLength: 5 }).map((ids) => ids.join(","))),
    );
    await check(fc.asyncProperty(fc.array(parameter, { maxLength: 4 }), async (parameters) => {
      forget();
      const pairs = parameters.map(([name, text]): [string, string] => [name, wellFormed(text)]);
      const answer = await api.send(`/users?${new URLSearchParams(pairs)}`);
      const text = await answer.text();
      assert(answer.status === 200 || answer.status === 400, text);
      assertEquals([api.cache.calls.length, api.errors.length], [answer.status === 200 ? 1 : 0, 0]);
      const { data, issues } = JSON.parse(text);
      if (answer.status === 200) assert(data.length <= 100);
      else assert(issues.length > 0);
    }));
  });

  it("answers each raw path and query without a 5xx", async () => {
    await check(fc.asyncProperty(fc.webPath(), fc.webQueryParameters(), async (path, query) => {
      forget();
      const answer = await api.send(`${path.startsWith("/") ? "" : "/"}${path}?${query}`);
      assert(answer.status < 500);
    }));
  });

  it("writes a body only if it is valid, and then exactly what it says", async () => {
    const target = fc.constantFrom(["POST", "/users"], ["PUT", "/users/5"], ["PATCH", "/users/5"]);
    let written = 0;
    await check(fc.asyncProperty(target, rawBody, async ([method = "", path = ""], text) => {
      forget();
      const answer = await api.send(path, { method, body: text });
      const shown = await answer.text();
      assertEquals(api.errors, []);
      if (answer.status === 400) {
        assertEquals([api.users.calls, api.cache.calls], [[], []]);
        return;
      }
      assert(answer.status === 200 || answer.status === 201, `${answer.status} ${shown}`);
      written++;
      const sent = JSON.parse(text);
      const { data } = JSON.parse(shown);
      const names = Object.keys(sent);
      assert(names.length > 0 && names.every((name) => ["name", "email", "bio"].includes(name)));
      for (const name of names) {
        assertEquals(data[name], sent[name]);
        assert(sent[name] === null ? name === "bio" : isStorable(sent[name]));
        if (name !== "bio") assert(sent[name] !== "" && [...sent[name]].length <= 100);
      }
      if (method !== "PATCH") {
        assert("name" in sent && "email" in sent);
        assertEquals(data.bio, sent.bio ?? null);
      }
    }));
    assert(written > 0, "no body was valid: the property has shown nothing");
  });

  it("answers any headers without a 5xx", async () => {
    const value = fc.string({ maxLength: 40 }).map((text) => text.replace(/[^\t\x20-\x7e]/g, "x"));
    const name = fc.constantFrom(
      "content-type",
      "content-encoding",
      "content-length",
      "if-none-match",
    );
    await check(fc.asyncProperty(fc.dictionary(name, value), async (headers) => {
      forget();
      for (const method of ["GET", "PUT"]) {
        const request = method === "GET" ? { headers } : { method, headers, body: "{}" };
        const answer = await api.send("/users/1", request);
        assert(answer.status < 500);
      }
      assert(!api.users.calls.includes("replace"));
    }));
  });

  function forget(): void {
    api.users.calls.length = 0;
    api.cache.calls.length = 0;
  }
});

/** Runs a property. A failure is reported with its seed and path, to be run again. */
function check(property: fc.IAsyncProperty<unknown>): Promise<void> {
  return fc.assert(property, { numRuns: RUNS, verbose: fc.VerbosityLevel.Verbose });
}

/** What can be put in a URL: an unpaired surrogate cannot. */
function wellFormed(text: string): string {
  return text.toWellFormed();
}
