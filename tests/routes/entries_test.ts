import { assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";

describe("GET /cache/entries/:key", () => {
  it("tells what the tiers hold, and counts no hit", async () => {
    await using api = createApi();
    await api.send("/users/1");
    const before = await (await api.send("/cache/stats")).json();
    const answer = await api.send("/cache/entries/users:1");
    assertEquals([answer.status, answer.headers.get("cache-control")], [200, "no-store"]);
    const { key, memory, redis, redisReached } = await answer.json();
    assertEquals([key, redis, redisReached], ["users:1", null, false]); // memory alone
    assertGreater(memory.bytes, 0);
    assertEquals(
      { ...memory, bytes: 0 },
      {
        negative: false,
        bytes: 0,
        ageMs: 0,
        freshLeftMs: 300_000,
        staleLeftMs: memory.staleLeftMs,
        tags: ["users:*"],
        valid: true,
      },
    );
    assertEquals(await (await api.send("/cache/stats")).json(), before);
  });

  it("answers null for what is not held", async () => {
    await using api = createApi();
    const { memory, redis } = await (await api.send("/cache/entries/users:9")).json();
    assertEquals([memory, redis], [null, null]);
  });

  it("takes every key that the cache takes, and no other", async () => {
    await using api = createApi();
    const good = [
      "a/b",
      "a b",
      "ä€👍",
      "<b>",
      "a%2Fb",
      "?",
      "x".repeat(200),
      "\u0085",
      "users:p:1:l:10",
    ];
    for (const key of good) {
      const answer = await api.send(`/cache/entries/${encodeURIComponent(key)}`);
      assertEquals([answer.status, (await answer.json()).key], [200, key]);
    }
    const bad = ["{a}", "a\nb", "\u007f", "x".repeat(201)].map(encodeURIComponent);
    for (const key of [...bad, "%ff", "%", "a%2"]) {
      const answer = await api.send(`/cache/entries/${key}`);
      assertEquals([answer.status, (await answer.json()).issues[0].path], [400, "key"]);
    }
    assertEquals(api.errors, []);
  });
});

describe("DELETE /cache/entries/:key", () => {
  it("invalidates the entry, so that the next read asks the database", async () => {
    await using api = createApi();
    await api.send("/users/1");
    const answer = await api.send("/cache/entries/users:1", { method: "DELETE" });
    assertEquals([answer.status, await answer.json()], [200, { message: "Entry invalidated" }]);
    assertEquals((await (await api.send("/users/1")).json()).source, "database");
  });

  it("says so when Redis has not taken it yet", async () => {
    await using api = createApi();
    api.cache.invalidation = "pending";
    const answer = await api.send("/cache/entries/users:1", { method: "DELETE" });
    assertEquals(await answer.json(), { message: "Entry invalidation pending" });
    assertEquals(api.invalidations.recent()[0]?.pending, true);
  });
});
