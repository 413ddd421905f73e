// deno-lint-ignore-file no-console -- it is a program that prints its findings

/**
 * Fills the memory tier with users and prints, as JSON, the bytes counted for them and the growth of the heap.
 * Arguments: `latin` or `wide`, the number of users, and the address of the cache. Needs
 * `--v8-flags=--expose-gc`.
 *
 * @module
 */
import { assert } from "@std/assert";
import { setTimeout as delay } from "node:timers/promises";
import { Cache } from "../../cache/mod.ts";

const TEXTS: Readonly<Record<string, { readonly name: string; readonly bio: string }>> = {
  latin: {
    name: "User",
    bio: "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
  },
  wide: {
    name: "Пользователь",
    bio: "Лорем ипсум долор сит амет, цонсецтетур адиписцинг елит.",
  },
};

const BATCH = 200;

/** A user, as the service stores it. */
function userOf(id: number, kind: string): Record<string, unknown> {
  const text = TEXTS[kind];
  assert(text !== undefined);
  return {
    id,
    name: `${text.name} ${id}`,
    email: `user${id}@example.com`,
    bio: `This is the bio for user ${id}. ${text.bio}`,
    created_at: "2026-01-01T00:00:00.000Z",
  };
}

/** Reachable bytes, in the heap and outside of it. */
async function liveBytes(): Promise<number> {
  const collect: unknown = Reflect.get(globalThis, "gc");
  assert(typeof collect === "function", "needs --v8-flags=--expose-gc");
  for (let round = 0; round < 5; round++) {
    collect();
    await delay(20); // finalizers run on the event loop
  }
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** Puts users `first` to `last` into memory: by a load if memory is the store, otherwise by a hit on Redis. */
async function fill(cache: Cache, kind: string, range: { first: number; last: number }) {
  for (let first = range.first; first <= range.last; first += BATCH) {
    const ids = Array.from(
      { length: Math.min(BATCH, range.last - first + 1) },
      (_, at) => first + at,
    );
    await Promise.all(ids.map(async (id) => {
      const load = () => Promise.resolve(userOf(id, kind));
      // Not a bare loop: while the connection is being made, reads never yield to it.
      while ((await cache.getOrLoad(`user:${id}`, load)).source !== "memory") await delay(1);
    }));
  }
}

async function main(): Promise<void> {
  const [kind = "latin", count = "50000", url = "memory:"] = Deno.args;
  const prefix = `heap-${crypto.randomUUID().slice(0, 8)}`;
  // Room for all of them and little more, because reserved space belongs to full tiers.
  const memoryBytes = 1_400 * Number(count);
  const options = { url, prefix, commandTimeoutMs: 20_000, ttlMs: 3_600_000, memoryBytes };
  // Compiled code and the runtime's own caches must not be counted as entries.
  await using warm = new Cache({ ...options, prefix: `${prefix}-warm` });
  await fill(warm, kind, { first: 1, last: 2_000 });
  await warm.close();

  const beforeBytes = await liveBytes();
  await using cache = new Cache(options);
  // More than once: the feed may announce a fill after the hit that installed it, and drop it again.
  for (let pass = 0; pass < 5 && cache.stats().memory.entries < Number(count); pass++) {
    await fill(cache, kind, { first: 1, last: Number(count) });
  }
  const afterBytes = await liveBytes();
  const { bytes, entries } = cache.stats().memory;
  console.log(
    JSON.stringify({ entries, accountedBytes: bytes, grownBytes: afterBytes - beforeBytes }),
  );
}

await main();
