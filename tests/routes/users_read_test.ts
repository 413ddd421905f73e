import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Lookup } from "../../cache/mod.ts";
import { createApi, userJson } from "./api_fixture.ts";

describe("GET /users/:id", () => {
  it("answers from the database and then from the cache, in the words of the contract", async () => {
    await using api = createApi();
    const first = await api.send("/users/1");
    assertEquals(first.status, 200);
    assertEquals(first.headers.get("content-type"), "application/json");
    assertEquals(
      await first.text(),
      `{"source":"database","duration":"0.0ms","data":${JSON.stringify(userJson(1))}}`,
    );
    const second = await api.send("/users/1");
    assertEquals(
      await second.text(),
      `{"source":"cache","duration":"0.0ms","data":${JSON.stringify(userJson(1))}}`,
    );
    assertEquals(api.users.calls, ["find"]);
    assertEquals(api.cache.calls, ["getOrLoad users:1", "getFromMemory users:1"]);
  });

  it("answers at once what is in memory", async () => {
    await using api = createApi();
    await api.send("/users/1");
    const second = api.fetch(new Request("http://127.0.0.1/users/1"));
    assert(second instanceof Response);
    assertMatch(await second.text(), /"source":"cache"/);
  });

  it("tells how long the look-up took, to a tenth of a millisecond", async () => {
    await using api = createApi();
    const find = api.users.find.bind(api.users);
    api.users.find = async (id) => {
      await api.clock.advance(12.34);
      return await find(id);
    };
    assertEquals((await (await api.send("/users/1")).json()).duration, "12.3ms");
  });

  it("passes the stored text on as it is, whatever it holds", async () => {
    await using api = createApi();
    api.cache.lookup = new Lookup("redis", "<not parsed>", api.clock.now() + 1_000, false);
    const body = await (await api.send("/users/1")).text();
    assertEquals(body, '{"source":"cache","duration":"0.0ms","data":<not parsed>}');
  });

  it("answers 404 for a user that does not exist, and remembers it", async () => {
    await using api = createApi();
    for (const status of ["fwd=uri-miss; stored; detail=database", "hit; ttl=30; detail=memory"]) {
      const answer = await api.send("/users/31");
      assertEquals(answer.status, 404);
      assertEquals(await answer.json(), { error: "User not found" });
      assertEquals(answer.headers.get("cache-status"), `Lookaside; ${status}`);
    }
    assertEquals(api.users.calls, ["find"]);
  });

  it("takes the ends of the range and a percent-encoded digit", async () => {
    await using api = createApi();
    assertEquals((await api.send("/users/2147483647")).status, 404);
    assertEquals((await api.send("/users/%31")).status, 200);
  });

  it("answers HEAD as GET, with the length and without the body", async () => {
    await using api = createApi();
    await api.send("/users/1");
    const got = await api.send("/users/1");
    const head = await api.send("/users/1", { method: "HEAD" });
    const { byteLength } = await got.arrayBuffer();
    assertEquals(head.status, 200);
    assertEquals(head.headers.get("content-length"), String(byteLength));
    assertEquals(head.headers.get("etag"), got.headers.get("etag"));
    assertEquals(await head.text(), "");
    assertEquals((await api.send("/users/abc", { method: "HEAD" })).status, 400);
    assertEquals((await api.send("/users/31", { method: "HEAD" })).status, 404);
  });
});

describe("GET /users", () => {
  it("answers a page with its number, and caches it for its own time", async () => {
    await using api = createApi();
    const first = await (await api.send("/users")).json();
    assertEquals(Object.keys(first), ["source", "duration", "page", "data"]);
    assertEquals([first.source, first.page], ["database", 1]);
    assertEquals(first.data, range(1, 10).map(userJson));
    const explicit = await (await api.send("/users?limit=10&page=1")).json();
    assertEquals(explicit.source, "cache");
    await api.clock.advance(59_000);
    assertEquals((await (await api.send("/users")).json()).source, "cache");
    await api.clock.advance(1_500);
    const stale = await api.send("/users");
    assertMatch(stale.headers.get("cache-status") ?? "", /hit; ttl=-1; detail=memory/);
    assertEquals(api.users.calls[0], "list");
  });

  it("keeps pages apart by number, size and kind", async () => {
    await using api = createApi();
    const paths = ["/users?page=2&limit=3", "/users?page=3&limit=2", "/users?after=2&limit=3"];
    const ids = [];
    for (const path of paths) {
      const { source, data } = await (await api.send(path)).json();
      assertEquals(source, "database");
      ids.push(data.map(({ id }: { id: number }) => id));
    }
    assertEquals(ids, [[4, 5, 6], [5, 6], [3, 4, 5]]);
    assertEquals(api.users.calls, ["list", "list", "listAfter"]);
  });

  it("walks the whole list by `after`, from 0 to an empty page", async () => {
    await using api = createApi();
    const seen = [];
    for (let after = 0; after >= 0;) {
      const body = await (await api.send(`/users?after=${after}&limit=7`)).json();
      assertEquals(body.after, after);
      seen.push(...body.data.map(({ id }: { id: number }) => id));
      after = body.data.at(-1)?.id ?? -1;
    }
    assertEquals(seen, range(1, 30));
  });

  it("answers a page past the end with no users", async () => {
    await using api = createApi();
    assertEquals((await (await api.send("/users?page=9999")).json()).data, []);
    assertEquals((await api.send("/users?page=10001&limit=10")).status, 200);
  });

  it("answers the users of `ids` in their order, each once, without those that do not exist", async () => {
    await using api = createApi();
    await api.send("/users/2");
    const mixed = await api.send("/users?ids=3,31,2,3");
    const body = await mixed.json();
    assertEquals(body.source, "database");
    assertEquals(body.data, [userJson(3), userJson(2)]);
    assertMatch(mixed.headers.get("cache-status") ?? "", /^Lookaside; fwd=uri-miss; stored/);
    assertEquals(api.cache.calls.at(-1), "getOrLoadMany users:3 users:31 users:2");
    const again = await api.send("/users?ids=3,31,2");
    assertEquals((await again.json()).source, "cache");
    // The unknown user is remembered for the shortest time, which is the answer's.
    assertEquals(again.headers.get("cache-status"), "Lookaside; hit; ttl=30; detail=memory");
    assertEquals(api.users.calls, ["find", "findMany"]);
  });

  it("says that `ids` were loaded if any was, however long that one stays fresh", async () => {
    await using api = createApi();
    await api.send("/users/2");
    await api.clock.advance(100_000);
    const mixed = await api.send("/users?ids=2,3,2");
    assertEquals((await mixed.json()).source, "database");
    const status = mixed.headers.get("cache-status");
    assertEquals(status, "Lookaside; fwd=uri-miss; stored; detail=database");
    const hits = await api.send("/users?ids=3,2");
    assertEquals(hits.headers.get("cache-status"), "Lookaside; hit; ttl=200; detail=memory");
  });

  it("answers no users for ids that are all unknown", async () => {
    await using api = createApi();
    assertEquals((await (await api.send("/users?ids=31,32")).json()).data, []);
  });

  it("refuses parameters that it does not know, and names those that it does", async () => {
    await using api = createApi();
    const names = ["limt", "__proto__", "constructor", "Page", ""];
    const answer = await api.send(`/users?${names.map((name) => `${name}=1`).join("&")}&page=1`);
    assertEquals(answer.status, 400);
    assertEquals(
      (await answer.json()).issues,
      names.map((path) => ({ path, message: "Unknown: expected page, limit, after or ids" })),
    );
    assertEquals(api.cache.calls, []);
    assertEquals((await api.send("/users?&p%61ge=1&")).status, 200);
  });
});

describe("Cache-Status", () => {
  const cases = [
    ["memory", 299_999, false, "hit; ttl=299; detail=memory"],
    ["redis", 1, false, "hit; ttl=0; detail=redis"],
    ["redis", -1, true, "hit; ttl=-1; detail=redis"],
    ["memory", -5_000, true, "hit; ttl=-5; detail=memory"],
    // The clocks disagree; whether it is stale is for the cache to say.
    ["redis", -5_000, false, "hit; ttl=0; detail=redis"],
    ["redis", 5_000, true, "hit; ttl=-1; detail=redis"],
    ["load", 300_000, false, "fwd=uri-miss; stored; detail=database"],
    ["load", undefined, false, "fwd=uri-miss; detail=database"],
  ] as const;
  for (const [source, leftMs, stale, expected] of cases) {
    it(`is "${expected}" for ${source}, ${leftMs} ms left, ${stale ? "stale" : "fresh"}`, async () => {
      await using api = createApi();
      const freshUntilMs = leftMs === undefined ? 0 : api.clock.now() + leftMs;
      api.cache.lookup = new Lookup(source, "{}", freshUntilMs, stale);
      const answer = await api.send("/users/1");
      assertEquals(answer.headers.get("cache-status"), `Lookaside; ${expected}`);
      assertEquals(answer.headers.get("cache-control"), "no-cache");
    });
  }

  it("counts down on one entry in memory", async () => {
    await using api = createApi();
    await api.send("/users/1");
    const seen = [];
    for (let second = 0; second < 3; second++) {
      for (let twice = 0; twice < 2; twice++) {
        seen.push((await api.send("/users/1")).headers.get("cache-status"));
      }
      await api.clock.advance(1_000);
    }
    const expected = [300, 300, 299, 299, 298, 298];
    assertEquals(seen, expected.map((ttl) => `Lookaside; hit; ttl=${ttl}; detail=memory`));
  });
});

describe("ETag", () => {
  it("is weak, and the same whichever tier the data comes from", async () => {
    await using api = createApi();
    const etags = new Set();
    for (let round = 0; round < 3; round++) {
      etags.add((await api.send("/users/1")).headers.get("etag"));
    }
    api.cache.lookup = new Lookup("redis", JSON.stringify(userJson(1)), 0, true);
    etags.add((await api.send("/users/1")).headers.get("etag"));
    assertEquals(etags.size, 1);
    assertMatch(String([...etags][0]), /^W\/"[0-9a-f]{16}"$/);
  });

  it("changes with the data", async () => {
    await using api = createApi();
    const before = (await api.send("/users/1")).headers.get("etag");
    await api.send("/users/1", { method: "PATCH", body: { bio: "Bio 2" } });
    assertNotEquals((await api.send("/users/1")).headers.get("etag"), before);
  });

  it("tells a thousand similar texts apart", async () => {
    await using api = createApi();
    const etags = new Set();
    const texts = range(0, 999).map((n) => `{"name":"${"x".repeat(n % 50)}${n}"}`);
    for (const text of texts) {
      api.cache.lookup = new Lookup("redis", text, 0, true);
      etags.add((await api.send("/users/1")).headers.get("etag"));
    }
    assertEquals(etags.size, 1_000);
  });

  const matching = [
    (etag: string) => etag,
    (etag: string) => etag.slice(2),
    (etag: string) => `"a,b", W/"c", ${etag}, "d"`,
    (etag: string) => `"x",${etag}`,
    () => "*",
    () => " * ",
  ];
  for (const [at, header] of matching.entries()) {
    it(`that If-None-Match names gives 304 without a body (form ${at + 1})`, async () => {
      await using api = createApi();
      for (const path of ["/users/1", "/users?limit=2", "/users?ids=1,2"]) {
        for (let round = 0; round < 2; round++) {
          const etag = (await api.send(path)).headers.get("etag") ?? "";
          const answer = await api.send(path, { headers: { "if-none-match": header(etag) } });
          assertEquals(answer.status, 304);
          assertEquals(answer.body, null);
          assertEquals(answer.headers.get("etag"), etag);
          assertEquals(answer.headers.get("cache-control"), "no-cache");
          assertMatch(
            answer.headers.get("cache-status") ?? "",
            /^Lookaside; hit; ttl=\d+; detail=/,
          );
          assertEquals(answer.headers.get("content-type"), null);
          const head = await api.send(path, {
            method: "HEAD",
            headers: { "if-none-match": header(etag) },
          });
          assertEquals([head.status, head.headers.get("content-length")], [304, null]);
        }
      }
    });
  }

  for (const header of ['"other"', 'W/"other", "x"', "", "garbage", '"', '"x", *']) {
    it(`that If-None-Match ${JSON.stringify(header)} does not name gives 200`, async () => {
      await using api = createApi();
      const answer = await api.send("/users/1", { headers: { "if-none-match": header } });
      assertEquals(answer.status, 200);
      assert((await answer.text()).length > 0);
    });
  }

  it("gives no 304 for a user that does not exist", async () => {
    await using api = createApi();
    const answer = await api.send("/users/31", { headers: { "if-none-match": "*" } });
    assertEquals(answer.status, 404);
  });
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, at) => from + at);
}
