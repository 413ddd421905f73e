import { connect } from "@db/driver";
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { systemRuntime } from "../../../cache/mod.ts";
import type { Queryable } from "../../../db/database.ts";
import { usersRows } from "../../support/users_rows.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../support/seeded_database.ts";
import { closeAll, openNodes } from "./nodes.ts";
import { describeStampede } from "./stampede.ts";
import { standalone } from "./stage.ts";

describeStampede("one Redis", standalone);

describe("Ids that do not exist", () => {
  it("reach the database once each, however often 10,000 of them are asked for", async () => {
    await using server = await startRedis();
    const nodes = await openNodes(server, 2, {
      negativeTtlMs: 60_000,
      commandTimeoutMs: 10_000, // two busy instances in one event loop are not what is tested
    });
    try {
      const loads = new Map<string, number>();
      for (let round = 0; round < 3; round++) {
        for (let start = 0; start < 10_000; start += 200) {
          await Promise.all(
            nodes.flatMap(({ cache }) =>
              Array.from({ length: 200 }, async (_, at) => {
                const key = `user:${start + at}`;
                const found = await cache.getOrLoad(key, () => {
                  loads.set(key, (loads.get(key) ?? 0) + 1);
                  return Promise.resolve(undefined);
                });
                assertEquals(found.value(), undefined);
              })
            ),
          );
        }
      }
      assertEquals(loads.size, 10_000);
      assertEquals([...loads.values()].filter((count) => count !== 1).length, 0);
    } finally {
      await closeAll(nodes);
    }
  });

  it("reach it once more for each negative TTL that passes", async () => {
    await using server = await startRedis();
    const { clock } = systemRuntime;
    let passedMs = 0;
    const now = () => clock.now() + passedMs;
    const monotonicNow = () => clock.monotonicNow() + passedMs;
    const runtime = { ...systemRuntime, clock: { ...clock, now, monotonicNow } };
    const nodes = await openNodes(server, 2, { negativeTtlMs: 60_000, runtime });
    try {
      const keys = Array.from({ length: 100 }, (_, at) => `user:${at}`);
      let loads = 0;
      const load = () => {
        loads++;
        return Promise.resolve(null);
      };
      const ask = () =>
        Promise.all(nodes.flatMap(({ cache }) => keys.map((key) => cache.getOrLoad(key, load))));
      for (let lives = 1; lives <= 3; lives++) {
        for (let times = 0; times < 20; times++) await ask();
        assertEquals(loads, lives * keys.length);
        passedMs += 60_000;
      }
    } finally {
      await closeAll(nodes);
    }
  });
});

describe("100 cold keys at once", () => {
  it("through the batching repository are at most 3 queries", async () => {
    await using server = await startRedis();
    await using created = await createSeededDatabase(100);
    await using database = connect({ url: created.url, poolMax: 4 });
    let queries = 0;
    const counted: Queryable = {
      query: (text, values) => {
        queries++;
        return database.query(text, values);
      },
    };
    const users = usersRows(counted);
    await users.shape();
    queries = 0;
    const nodes = await openNodes(server, 1, { loadsMax: 100 });
    try {
      const ids = Array.from({ length: 100 }, (_, at) => at + 1);
      for (const { cache } of nodes) {
        const found = await Promise.all(
          ids.map((id) => cache.getOrLoad(`user:${id}`, () => users.find([`${id}`]))),
        );
        assertEquals(found.map((lookup) => lookup.value()?.name), ids.map((id) => `User ${id}`));
        assertEquals(cache.stats().loads, 100);
      }
      assertLessOrEqual(queries, 3);
      assert(queries > 0);
    } finally {
      await closeAll(nodes);
    }
  });

  it("through getOrLoadMany() are one call of the loader", async () => {
    await using server = await startRedis();
    const nodes = await openNodes(server, 1);
    try {
      const keys = Array.from({ length: 100 }, (_, at) => `user:${at}`);
      const calls: number[] = [];
      for (const { cache } of nodes) {
        const found = await cache.getOrLoadMany(keys, (missing) => {
          calls.push(missing.length);
          return Promise.resolve(new Map(missing.map((key) => [key, `value of ${key}`])));
        });
        assertEquals(found.map((lookup) => lookup.value()), keys.map((key) => `value of ${key}`));
      }
      assertEquals(calls, [100]);
    } finally {
      await closeAll(nodes);
    }
  });
});
