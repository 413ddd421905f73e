import { assertEquals, assertLess, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { type Answer, read, startLoad } from "../../tests/support/load.ts";
import { type PostgresServer, startPostgres } from "../../tools/servers/postgres_server.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import { startTcpProxy, type TcpProxy } from "../../tools/servers/tcp_proxy.ts";

const usersCount = 200;

describe("the service, its Postgres", () => {
  const stack = new AsyncDisposableStack();
  let postgres: PostgresServer;
  let proxy: TcpProxy;
  let service: Service;
  let env: Record<string, string>;

  beforeAll(async () => {
    postgres = stack.use(await startPostgres());
    const redis = stack.use(await startRedis());
    // Not disposed of: its server is removed.
    const database = await createSeededDatabase(usersCount, postgres.url);
    proxy = stack.use(startTcpProxy(postgres.port));
    const url = new URL(database.url);
    url.port = String(proxy.port);
    env = { REDIS_URL: redis.serviceUrl, DATABASE_URL: url.href };
    service = stack.use(await startService({ env }));
  });
  afterAll(() => stack.disposeAsync());

  it("stopped, serves what is cached, 503 for what is not, and recovers by itself", async () => {
    await cacheInUse(service, "/users/1");
    await postgres.stop();
    try {
      for (let round = 0; round < 3; round++) {
        const answer = await get("/users/1");
        assertEquals(answer.status, 200, answer.text);
        assertEquals(JSON.parse(answer.text).source, "cache");
        assertUnavailable(await get(`/users/${100 + round}`));
        assertUnavailable(await get(`/users?page=${round + 2}`));
        assertUnavailable(await put(1, "Never written"));
      }
      assertEquals((await get("/healthz")).status, 200);
    } finally {
      await postgres.start();
    }
    await eventually(async () => assertEquals((await get("/users/100")).status, 200));
    await eventually(async () => assertEquals((await get("/readyz")).status, 200));
    // The refused write has changed nothing.
    assertStringIncludes((await get("/users/1")).text, '"name":"User 1"');
    assertEquals((await put(1, "Written")).status, 200);
    assertStringIncludes((await get("/users/1")).text, '"name":"Written"');
  });

  it("hung, serves what is cached and answers 503 in bounded time for what is not", async () => {
    await cacheInUse(service, "/users/3");
    proxy.hang();
    try {
      const startedAtMs = performance.now();
      const misses = Promise.all(range(120, 130).map((id) => get(`/users/${id}`)));
      const answer = await get("/users/3");
      assertEquals(answer.status, 200, answer.text);
      assertEquals(JSON.parse(answer.text).source, "cache");
      for (const miss of await misses) assertUnavailable(miss);
      assertLess(performance.now() - startedAtMs, 15_000);
    } finally {
      proxy.pass();
    }
    await eventually(async () => assertEquals((await get("/users/120")).status, 200));
  });

  it("hung under more writes than may wait, refuses at once those past the bound", async () => {
    const startedAtMs = performance.now();
    proxy.hang();
    try {
      const tooksMs: number[] = [];
      const answers = await Promise.all(
        range(0, 1_100).map(async (n) => {
          const answer = await put(n % usersCount + 1, "Perhaps written");
          tooksMs.push(performance.now() - startedAtMs);
          return answer;
        }),
      );
      for (const answer of answers) assertUnavailable(answer);
      // 20 run, 1,000 wait; the relay uses one or two of these places.
      assertLess(tooksMs.filter((tookMs) => tookMs > 5_000).length, 1_021);
      assertLess(Math.max(...tooksMs), 15_000);
    } finally {
      proxy.pass();
    }
    await eventually(async () => assertEquals((await put(7, "Written")).status, 200));
  });

  it("restarted under requests, gives each a full answer: 200, or 503 with Retry-After", async () => {
    await using load = startLoad({
      send: (n) =>
        n % 10 === 0
          ? service.fetch("/users/5", {
            method: "PUT",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({ name: `Round ${n}`, email: "user@example.com" }),
          })
          : service.fetch(`/users/${n % usersCount + 1}`),
      isGood: (answer) => answer.status === 200 || isUnavailable(answer),
    });
    for (let round = 0; round < 3; round++) {
      await load.answered(200);
      await postgres.restart();
    }
    await load.answered(200);
    assertEquals(await load.stop(), []);
    await eventually(async () => {
      for (let id = 1; id <= 20; id++) assertEquals((await get(`/users/${id}`)).status, 200);
    });
  });

  it("refusing every connection, makes 503 of each miss and nothing worse", async () => {
    await using other = await startService({
      env: {
        ...env,
        DATABASE_URL: "postgres://postgres@127.0.0.1:1/nowhere",
        REDIS_URL: "memory:",
      },
      readyPath: "/healthz",
    });
    for (const path of ["/users/1", "/users", "/users/1"]) {
      assertUnavailable(await read(() => other.fetch(path)));
    }
    assertEquals((await read(() => other.fetch("/readyz"))).status, 503);
    assertEquals(await other.stop(), 0, other.log);
  });

  for (const mode of ["Redis", "memory"] as const) {
    it(`hung, serves what is past its TTL at once and marked stale, within its grace (${mode})`, async () => {
      await using own = await startService({
        env: { ...env, ...agingEnv, ...(mode === "memory" ? { REDIS_URL: "memory:" } : {}) },
      });
      for (const path of agingPaths) await cacheInUse(own, path);
      proxy.hang();
      try {
        for (const path of agingPaths) await assertServedStale(own, path);
        assertUnavailable(await read(() => own.fetch("/users/150")));
      } finally {
        proxy.pass();
      }
      // Once Postgres is back, it is refreshed after a stale answer.
      for (const path of agingPaths) {
        await eventually(async () => assertEquals(await isStale(own, path), false));
      }
    });
  }

  it("hung, is waited for where the grace is over, and then answered with 503", async () => {
    // A separate prefix, because entries of others have a longer grace.
    const graceless = { CACHE_GRACE_MS: "300", CACHE_PREFIX: "tgraceless" };
    await using own = await startService({ env: { ...env, ...agingEnv, ...graceless } });
    await cacheInUse(own, "/users/9");
    proxy.hang();
    try {
      await eventually(async () => assertUnavailable(await read(() => own.fetch("/users/9"))));
    } finally {
      proxy.pass();
    }
  });

  function get(path: string): Promise<Answer> {
    return read(() => service.fetch(path));
  }

  function put(id: number, name: string): Promise<Answer> {
    return read(() =>
      service.fetch(`/users/${id}`, {
        method: "PUT",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ name, email: "user@example.com" }),
      })
    );
  }
});

/** Every entry is fresh for exactly half a second, and may be served for a minute after. */
const agingEnv = {
  CACHE_PREFIX: "taging",
  CACHE_TTL_MS: "500",
  CACHE_LIST_TTL_MS: "500",
  CACHE_JITTER_RATIO: "0",
};

/** Look-ups of one key, of a page, and of several keys. */
const agingPaths = ["/users/9", "/users?limit=5", "/users?ids=9,10"];

/** Waits until an entry is stale, and expects each answer until then at once. */
async function assertServedStale(service: Service, path: string): Promise<void> {
  await eventually(async () => {
    const startedAtMs = performance.now();
    const stale = await isStale(service, path);
    assertLess(performance.now() - startedAtMs, 1_000);
    assertEquals(stale, true);
  });
}

async function isStale(service: Service, path: string): Promise<boolean> {
  const { status, text, headers } = await read(() => service.fetch(path));
  assertEquals(status, 200, text);
  return /; hit; ttl=-\d+; /.test(headers.get("cache-status") ?? "");
}

function isUnavailable({ status, headers, text }: Answer): boolean {
  return status === 503 && /^\d+$/.test(headers.get("retry-after") ?? "") &&
    typeof JSON.parse(text).error === "string";
}

function assertUnavailable(answer: Answer): void {
  assertEquals(isUnavailable(answer), true, `${answer.status} ${answer.text}`);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, at) => from + at);
}
