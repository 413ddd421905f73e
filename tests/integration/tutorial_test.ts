import { assert, assertEquals, assertLess, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { type Answer, read } from "../support/load.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";

// After a write its change also comes back through the database's change feed, and then invalidates
// once more. So a value is in the cache soon after a write, not at the very next read.
describe("the service, as the tutorial's client sees it", () => {
  const stack = new AsyncDisposableStack();
  let service: Service;
  let redis: Awaited<ReturnType<typeof startRedis>>;

  beforeAll(async () => {
    redis = stack.use(await startRedis());
    const database = stack.use(await createSeededDatabase(30));
    service = stack.use(
      await startService({
        env: {
          REDIS_URL: redis.serviceUrl,
          DATABASE_URL: database.url,
          REDIS_COMMAND_TIMEOUT_MS: "2000",
        },
      }),
    );
    await cacheInUse(service, "/users/30");
  });
  afterAll(() => stack.disposeAsync());

  it("1. answers the first read of a user from the database", async () => {
    const answer = await get("/users/1");
    assertEquals(answer.status, 200);
    const body = JSON.parse(answer.text);
    assertEquals(Object.keys(body), ["source", "duration", "data"]);
    assertEquals(body.source, "database");
    assertMatch(body.duration, /^\d+(\.\d+)?ms$/);
    assertEquals(
      { ...body.data, created_at: typeof body.data.created_at },
      {
        id: 1,
        name: "User 1",
        email: "user1@example.com",
        bio: "This is the bio for user 1. Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
        created_at: "string",
      },
    );
  });

  it("2. answers the second from the cache, the same and faster", async () => {
    const first = JSON.parse((await get("/users/2")).text);
    const second = JSON.parse((await get("/users/2")).text);
    // Nothing was written yet, so here the very next read is a hit.
    assertEquals([first.source, second.source], ["database", "cache"]);
    assertEquals(second.data, first.data);
    const misses = await durationsOf("database", (n) => `/users/${n + 10}`);
    const hits = await durationsOf("cache", () => "/users/2");
    assertLess(median(hits), median(misses));
  });

  it("3. answers the new value after a write: from the database, then from the cache", async () => {
    await get("/users/3");
    const fields = { name: "Jane Doe", email: "jane@example.com", bio: "Updated" };
    const written = await send("PUT", "/users/3", fields);
    assertEquals(written.status, 200);
    const body = JSON.parse(written.text);
    assertEquals(body.message, "User updated and cache invalidated");
    assertEquals({ ...body.data, created_at: undefined }, {
      id: 3,
      ...fields,
      created_at: undefined,
    });
    const after = JSON.parse((await get("/users/3")).text);
    assertEquals([after.source, after.data], ["database", body.data]);
    await eventually(async () => {
      const later = JSON.parse((await get("/users/3")).text);
      assertEquals([later.source, later.data], ["cache", body.data]);
    });
  });

  it("4. caches a list page and invalidates it by a write to a user on it", async () => {
    const path = "/users?page=1&limit=10";
    const page = JSON.parse((await get(path)).text);
    assertEquals([page.source, page.page], ["database", 1]);
    assertEquals(page.data.map(({ id }: { id: number }) => id), range(1, 10));
    await eventually(async () => {
      const later = JSON.parse((await get(path)).text);
      assertEquals(later, { ...page, source: "cache", duration: later.duration });
    });
    await send("PUT", "/users/5", { name: "Five", email: "five@example.com" });
    const after = JSON.parse((await get(path)).text);
    assertEquals(after.source, "database");
    assertEquals(after.data[4].name, "Five");
    assertEquals(after.data[4].bio, null);
  });

  it("5. tells of Redis in /cache/stats, and DELETE /cache empties its own part of it", async () => {
    await redis.cli("SET", "somebody:else", "1");
    await cacheInUse(service, "/users/6");
    const stats = JSON.parse((await get("/cache/stats")).text);
    assertStringIncludes(stats.info, "keyspace_hits");
    assertStringIncludes(stats.keyspace, "db0:keys=");
    assertEquals(stats.totalKeys, Number(await redis.cli("DBSIZE")));
    assert(stats.totalKeys > 1);

    await cacheInUse(service, "/users/6");
    const cleared = await send("DELETE", "/cache");
    assertEquals([cleared.status, cleared.text], [200, '{"message":"Cache cleared"}']);
    assertEquals(JSON.parse((await get("/users/6")).text).source, "database");
    assertEquals(await redis.cli("GET", "somebody:else"), "1");
  });

  function get(path: string): Promise<Answer> {
    return read(() => service.fetch(path));
  }

  function send(method: string, path: string, body?: unknown): Promise<Answer> {
    if (body === undefined) return read(() => service.fetch(path, { method }));
    const headers = { "content-type": "application/json" };
    return read(() => service.fetch(path, { method, headers, body: JSON.stringify(body) }));
  }

  /** What the service says ten reads took, all of which must come from `source`. */
  async function durationsOf(source: string, path: (n: number) => string): Promise<number[]> {
    const durations = [];
    for (let n = 0; n < 10; n++) {
      const body = JSON.parse((await get(path(n))).text);
      assertEquals(body.source, source);
      durations.push(parseFloat(body.duration));
    }
    return durations;
  }
});

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, at) => from + at);
}
