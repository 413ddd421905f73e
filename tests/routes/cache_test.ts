import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";

describe("GET /cache/stats", () => {
  it("tells of Redis under the three names of old, and of each tier beside them", async () => {
    await using api = createApi();
    api.cache.info = { info: "# Stats", keyspace: "# Keyspace", totalKeys: 7 };
    await api.send("/users/1");
    await api.send("/users/1");
    const answer = await api.send("/cache/stats");
    assertEquals(answer.status, 200);
    assertEquals(answer.headers.get("cache-control"), "no-store");
    const stats = await answer.json();
    assertEquals(Object.keys(stats).slice(0, 3), ["info", "keyspace", "totalKeys"]);
    assertEquals([stats.info, stats.keyspace, stats.totalKeys], ["# Stats", "# Keyspace", 7]);
    assertEquals([stats.memory.hits, stats.loads], [1, 1]);
    assert("redis" in stats && "refusedFills" in stats && "loadLatency" in stats);
  });

  it("answers null for what Redis cannot be asked", async () => {
    await using api = createApi();
    const { info, keyspace, totalKeys } = await (await api.send("/cache/stats")).json();
    assertEquals([info, keyspace, totalKeys], [null, null, null]);
  });
});

describe("GET /cache/stats of the change feed", () => {
  it("answers what it did, and null while Postgres cannot be asked", async () => {
    const stats = { applied: 1, replayed: 2, backlog: 3, lagMs: 4, heldMs: 5, bytes: 6 };
    await using api = createApi({ changes: { stats: () => Promise.resolve(stats) } });
    assertEquals((await (await api.send("/cache/stats")).json()).changes, stats);
    await using cut = createApi({ changes: { stats: () => Promise.reject(new Error("down")) } });
    const answer = await cut.send("/cache/stats");
    assertEquals([answer.status, (await answer.json()).changes], [200, null]);
  });
});

describe("DELETE /cache", () => {
  it("clears the cache", async () => {
    await using api = createApi();
    await api.send("/users/1");
    const answer = await api.send("/cache", { method: "DELETE" });
    assertEquals([answer.status, await answer.text()], [200, '{"message":"Cache cleared"}']);
    assertEquals((await (await api.send("/users/1")).json()).source, "database");
  });

  it("says so when Redis has not taken it yet", async () => {
    await using api = createApi();
    api.cache.invalidation = "pending";
    const answer = await api.send("/cache", { method: "DELETE" });
    assertEquals(await answer.json(), { message: "Cache clear pending" });
  });
});

describe("POST /cache/warm", () => {
  it("warms the cache and says how many users it read", async () => {
    await using api = createApi({ warm: () => Promise.resolve(7) });
    const answer = await api.send("/cache/warm", { method: "POST" });
    assertEquals([answer.status, await answer.json()], [200, {
      message: "Cache warmed",
      warmed: 7,
    }]);
  });
});
