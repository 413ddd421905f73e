import { assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type CacheServer, type Invalidation } from "../../cache/mod.ts";
import { NO_CHANGES } from "../../cache/changes.ts";
import {
  applyChanges,
  type Change,
  type Invalidates,
  InvalidationPendingError,
} from "../../changes/apply.ts";

/** A cache and its only server. */
function openCache(): { readonly cache: Cache; readonly server: CacheServer } {
  let server: CacheServer | undefined;
  const cache = new Cache({
    changes: {
      attach: ({ servers }) => {
        [server] = servers;
        return NO_CHANGES;
      },
    },
  });
  if (server === undefined) throw new Error("Cannot test: no source of changes was attached");
  return { cache, server };
}

/** The keys that are still cached. */
async function left(cache: Cache, keys: readonly string[]): Promise<string[]> {
  const found = await cache.getMany(keys);
  return keys.filter((_, i) => found[i] !== undefined);
}

const order = { table: "orders", keys: ["42"], values: ["customer_id=7", "customer_id=8"] };

describe("applyChanges()", () => {
  const entries: Readonly<Record<string, readonly string[]>> = {
    "orders:42": ["orders:*"],
    "orders:43": ["orders:*"],
    "orders:?customer_id=7": ["orders:customer_id=7", "orders:*"],
    "orders:?customer_id=8": ["orders:customer_id=8", "orders:*"],
    "orders:?customer_id=9": ["orders:customer_id=9", "orders:*"],
    "orders:/top sellers": ["orders:any", "orders:*"],
    "invoice of 42": ["orders:42", "orders:*"],
    "invoice of 43": ["orders:43", "orders:*"],
    "report": [],
  };

  it("ends what depends on the rows that changed, and nothing else", async () => {
    const { cache, server } = openCache();
    for (const [key, tags] of Object.entries(entries)) await cache.set(key, "old", { tags });
    const { keys, tags } = await applyChanges(server, [order, order]);
    const kept = ["orders:43", "orders:?customer_id=9", "invoice of 43", "report"];
    assertEquals(await left(cache, Object.keys(entries)), kept);
    assertEquals(keys, ["orders:42"]);
    assertEquals(tags.length, new Set(tags).size);
    await cache.close();
  });

  it("ends all that is made of a table where the rows are not listed", async () => {
    const { cache, server } = openCache();
    for (const [key, tags] of Object.entries(entries)) await cache.set(key, "old", { tags });
    await applyChanges(server, [{ table: "orders", keys: undefined, values: [] }]);
    assertEquals(await left(cache, Object.keys(entries)), ["report"]);
    await cache.close();
  });

  it("asks whoever names the entries of a table otherwise, and nobody else", async () => {
    const { cache, server } = openCache();
    await cache.set("user:1", "old", { tags: ["users"] });
    await cache.set("user:2", "other", { tags: ["users"] });
    await cache.set("users:page=1&limit=10", ["old"], { tags: ["users", "users:list"] });
    const changed: Change = { table: "users", keys: ["1"], values: [] };
    const invalidates: Invalidates = {
      users: ({ keys }) =>
        keys === undefined
          ? { keys: [], tags: ["users"] }
          : { keys: keys.map((id) => `user:${id}`), tags: ["users:list"] },
    };
    await applyChanges(server, [{ ...changed, table: "constructor" }], { invalidates });
    await applyChanges(server, [{ ...changed, table: "sales.users" }], { invalidates });
    assertEquals((await left(cache, ["user:1", "user:2", "users:page=1&limit=10"])).length, 3);
    await applyChanges(server, [changed], { invalidates });
    assertEquals(await left(cache, ["user:1", "user:2", "users:page=1&limit=10"]), ["user:2"]);
    await applyChanges(server, [{ ...changed, keys: undefined }], { invalidates });
    assertEquals(await left(cache, ["user:2"]), []);
    await cache.close();
  });

  it("sends at most 1,000 names at once", async () => {
    const sent: string[][] = [];
    const note = (...names: string[]): Promise<Invalidation> => {
      sent.push(names);
      return Promise.resolve("applied");
    };
    const keys = Array.from({ length: 1_500 }, (_, n) => `${n}`);
    await applyChanges({ delete: note, invalidateTags: note }, [{ ...order, keys, values: [] }]);
    assertEquals(sent.map(({ length }) => length), [1_000, 500, 1_000, 501]);
  });

  it("rejects while Redis has not taken all of it, so that the outbox row stays open", async () => {
    for (const pendingPart of ["delete", "invalidateTags"]) {
      const answer = (part: string) => (): Promise<Invalidation> =>
        Promise.resolve(part === pendingPart ? "pending" : "applied");
      const server = { delete: answer("delete"), invalidateTags: answer("invalidateTags") };
      await assertRejects(() => applyChanges(server, [order]), InvalidationPendingError);
    }
  });
});
