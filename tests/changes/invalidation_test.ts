import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type Invalidation } from "../../cache/mod.ts";
import { applyChanges, InvalidationPendingError } from "../../changes/invalidation.ts";

describe("applyChanges()", () => {
  it("invalidates the users that changed and every page of users, and no other user", async () => {
    await using cache = new Cache({ url: "memory:" });
    await cache.set("user:1", "old", { tags: ["users"] });
    await cache.set("user:2", "other", { tags: ["users"] });
    await cache.set("users:page=1&limit=10", ["old"], { tags: ["users", "users:list"] });
    await applyChanges(cache, [{ table: "users", ids: ["1"] }]);
    assertEquals(await cache.get("user:1"), undefined);
    assertEquals((await cache.get("user:2"))?.value(), "other");
    assertEquals(await cache.get("users:page=1&limit=10"), undefined);
  });

  it("invalidates everything made of users when any of them may have changed", async () => {
    await using cache = new Cache({ url: "memory:" });
    await cache.set("user:2", "old", { tags: ["users"] });
    await cache.set("users:page=1&limit=10", ["old"], { tags: ["users", "users:list"] });
    await cache.set("report", "kept");
    await applyChanges(cache, [{ table: "users", ids: undefined }]);
    assertEquals(await cache.get("user:2"), undefined);
    assertEquals(await cache.get("users:page=1&limit=10"), undefined);
    assertEquals((await cache.get("report"))?.value(), "kept");
  });

  it("passes over tables that are not cached here", async () => {
    await using cache = new Cache({ url: "memory:" });
    await cache.set("user:1", "kept");
    await applyChanges(cache, [{ table: "constructor", ids: ["1"] }, { table: "o", ids: ["1"] }]);
    assertEquals((await cache.get("user:1"))?.value(), "kept");
  });

  it("rejects while Redis has not taken all of it, so that the outbox row stays open", async () => {
    for (const pendingPart of ["delete", "invalidateTags"]) {
      const answer = (part: string) => (): Promise<Invalidation> =>
        Promise.resolve(part === pendingPart ? "pending" : "applied");
      const cache = { delete: answer("delete"), invalidateTags: answer("invalidateTags") };
      await assertRejects(
        () => applyChanges(cache, [{ table: "users", ids: ["1"] }]),
        InvalidationPendingError,
      );
    }
  });
});
