import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../cache/mod.ts";
import { entryMark } from "../../cache/entry.ts";
import type { Acquired, Store, Stored } from "../../cache/store.ts";

/** What Redis held before the write. */
const oldEntry = {
  text: '"old"',
  loadedAtMs: Date.now(),
  freshUntilMs: Date.now() + 60_000,
  staleUntilMs: Date.now() + 60_000,
  costMs: 0,
  tags: [{ name: "*", version: "root" }],
};
const old: Stored = { entry: oldEntry, mark: entryMark(oldEntry), bytes: 1 };

/** A store whose reads wait for the test, and which takes no invalidation. */
class UnreachableForWrites implements Store {
  readonly source = "redis";
  readonly asked = Promise.withResolvers<void>();
  readonly reply = Promise.withResolvers<void>();
  readonly #slow: "get" | "acquire";

  constructor(slow: "get" | "acquire") {
    this.#slow = slow;
  }

  async get(): Promise<Stored | null> {
    if (this.#slow !== "get") return null;
    this.asked.resolve();
    await this.reply.promise;
    return old;
  }

  async acquire(_key: string, lease: string): Promise<Acquired> {
    if (this.#slow !== "acquire") return { holder: lease, stored: null };
    this.asked.resolve();
    await this.reply.promise;
    return { holder: "", stored: old };
  }

  fill = () => Promise.resolve(true);
  release = () => Promise.resolve();
  set = () => Promise.reject(new Error("unreachable"));
  invalidate = () => Promise.reject(new Error("unreachable"));
  expire = () => Promise.reject(new Error("unreachable"));
  readTags = (names: readonly string[]) => Promise.resolve(names.map(() => "root"));
  createTags = (names: readonly string[]) => Promise.resolve(names.map(() => "root"));
  writeTags = () => Promise.reject(new Error("unreachable"));
  follow = () => {};
  close = () => Promise.resolve();
}

describe("Cache.getOrLoad()", () => {
  for (const slow of ["get", "acquire"] as const) {
    it(`believes no reply to ${slow} that was asked for before an invalidation was owed`, async () => {
      const store = new UnreachableForWrites(slow);
      await using cache = new Cache({}, store);
      const reading = cache.getOrLoad("key", () => Promise.resolve("new"));
      await store.asked.promise;
      assertEquals(await cache.delete("key"), "pending");
      store.reply.resolve();
      assertEquals((await reading).value(), "new");
      assertEquals((await cache.getOrLoad("key", () => Promise.resolve("newer"))).value(), "newer");
    });
  }
});

describe("Cache.get()", () => {
  it("believes no reply that was asked for before an invalidation was owed", async () => {
    const store = new UnreachableForWrites("get");
    await using cache = new Cache({}, store);
    const reading = cache.get("key");
    await store.asked.promise;
    assertEquals(await cache.delete("key"), "pending");
    store.reply.resolve();
    assertEquals(await reading, undefined);
  });
});
