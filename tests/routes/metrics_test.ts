import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { DatabaseUnavailableError } from "../../db/database.ts";
import { type Api, createApi, type SendInit } from "./api_fixture.ts";

const relay = { applied: 11, replayed: 12, backlog: 13, lagMs: 14_500, heldMs: 15_500, bytes: 16 };

describe("GET /metrics", () => {
  it("answers in Prometheus's text format", async () => {
    await using api = createApi();
    const answer = await api.send("/metrics");
    assertEquals(answer.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assertEquals(answer.headers.get("cache-control"), "no-store");
    const names = new Map(
      [...(await answer.text()).matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", kind]) => [
        name,
        kind,
      ]),
    );
    assert(names.size > 30);
    for (const [name, kind] of names) {
      assertMatch(name, /^lookaside_[a-z0-9_]+$/);
      assertEquals(name.endsWith("_total"), kind === "counter", name);
      assert(!/_(ms|milliseconds|kb|mb)(_|$)/.test(name), name);
    }
  });

  it("tells what /cache/stats tells", async () => {
    await using api = createApi({
      changes: { stats: () => Promise.resolve(relay) },
      audit: { note: () => {}, stats: () => ({ audited: 21, stale: 22 }) },
    });
    watchStats(api);
    const stats = await (await api.send("/cache/stats")).json();
    const expected = {
      'hits_total{tier="memory"}': stats.memory.hits,
      'hits_total{tier="redis"}': stats.redis.hits,
      'misses_total{tier="memory"}': stats.memory.misses,
      'misses_total{tier="redis"}': stats.redis.misses,
      stale_hits_total: stats.staleHits,
      negative_hits_total: stats.negativeHits,
      coalesced_total: stats.coalesced,
      memory_entries: stats.memory.entries,
      memory_bytes: stats.memory.bytes,
      memory_evictions_total: stats.memory.evictions,
      loads_total: stats.loads,
      load_errors_total: stats.loadErrors,
      rejected_loads_total: stats.rejectedLoads,
      abandoned_loads_total: stats.abandonedLoads,
      refreshes_total: stats.refreshes,
      refused_fills_total: stats.refusedFills,
      redis_up: 1,
      redis_errors_total: stats.redisErrors,
      unreadable_total: stats.unreadable,
      invalidations_total: stats.invalidations,
      pending_invalidations: stats.pendingInvalidations,
      coherent: 1,
      fallback: 0,
      feed_drops_total: stats.feedDrops,
      'breaker_state{state="closed"}': 0,
      'breaker_state{state="open"}': 1,
      'breaker_state{state="half-open"}': 0,
      'redis_duration_seconds{quantile="0.5"}': stats.redisLatency.p50Ms / 1000,
      'redis_duration_seconds{quantile="0.99"}': stats.redisLatency.p99Ms / 1000,
      'redis_duration_seconds{quantile="1"}': stats.redisLatency.maxMs / 1000,
      redis_durations_total: stats.redisLatency.count,
      'load_duration_seconds{quantile="0.5"}': stats.loadLatency.p50Ms / 1000,
      'load_duration_seconds{quantile="0.99"}': stats.loadLatency.p99Ms / 1000,
      'load_duration_seconds{quantile="1"}': stats.loadLatency.maxMs / 1000,
      load_durations_total: stats.loadLatency.count,
      database_up: 1,
      relay_applied_total: 11,
      relay_replayed_total: 12,
      relay_backlog: 13,
      relay_lag_seconds: 14.5,
      held_seconds: 15.5,
      outbox_bytes: 16,
      audits_total: 21,
      audit_stale_total: 22,
      'errors_total{status="500"}': 0,
      'errors_total{status="503"}': 0,
      pool_connections_max: 20,
      pool_connections_in_use: 3,
      pool_waiting: 1,
      'event_loop_lag_seconds{quantile="0.5"}': 0,
      'event_loop_lag_seconds{quantile="0.99"}': 0,
      'event_loop_lag_seconds{quantile="1"}': 0,
    };
    const { process_resident_memory_bytes, process_heap_used_bytes, ...scraped } = await scrape(
      api,
    );
    const others = Object.entries(scraped).filter(([name]) => !name.startsWith("requests_total"));
    assertEquals(Object.fromEntries(others), expected);
    assert(Number(process_resident_memory_bytes) > Number(process_heap_used_bytes));
  });

  it("counts on between scrapes", async () => {
    await using api = createApi();
    assertEquals((await scrape(api)).loads_total, 0);
    await api.send("/users/1");
    await api.send("/users/1");
    const { loads_total, ...rest } = await scrape(api);
    assertEquals([loads_total, rest['hits_total{tier="memory"}']], [1, 1]);
  });

  it("counts every request, whatever became of it", async () => {
    await using api = createApi({
      access: { adminTokens: ["secret"], open: "off" },
      corsOrigins: ["https://app.example"],
    });
    for (
      const [path, init] of [
        ["/users/1", {}],
        ["/users/2?x=1", {}],
        ["/users/1", { headers: { "if-none-match": "*" } }],
        ["/users/1", { method: "HEAD" }],
        ["/users/x", {}],
        ["/users/77", {}],
        ["/users", {}],
        ["/users?page=1&limit=2", {}],
        ["/users/1", { method: "PUT" }],
        ["/users/1", { method: "BREW" }],
        ["/users/1", { method: "OPTIONS" }],
        ["/users/1/more", {}],
        ["/nowhere", {}],
        ["/", {}],
      ] as const
    ) await (await api.send(path, init)).body?.cancel();
    const headers = { authorization: "Bearer secret" };
    const scraped = await scrape(api, { headers });
    const counted = Object.entries(scraped).flatMap(([name, value]) => {
      const [, labels = ""] = /^requests_total\{(.*)\}$/.exec(name) ?? [];
      return labels === "" || value === 0 ? [] : [`${labels.replaceAll(/\w+=|"/g, "")} ${value}`];
    });
    assertEquals(counted.sort(), [
      "GET,/,200 1",
      "GET,/users,200 2",
      "GET,/users/:id,200 2",
      "GET,/users/:id,304 1",
      "GET,/users/:id,400 2",
      "GET,/users/:id,404 2",
      "GET,other,404 1",
      "OPTIONS,/users/:id,204 1",
      "PUT,/users/:id,401 1",
      "other,/users/:id,405 1",
    ]);
    assertEquals((await scrape(api, { headers }))[series("GET", "/metrics", 200)], 1);
  });

  it("counts reads that failed, and those that were refused for being too many", async () => {
    let refused = false;
    const clients = {
      name: "client",
      limit: 9,
      windowMs: 60_000,
      take: () => Promise.resolve({ allowed: !refused, remaining: 0, resetMs: 1 }),
    };
    await using api = createApi({ limits: { clients, trustedProxies: 0 } });
    api.users.failure = new DatabaseUnavailableError("Cannot query: down");
    await api.send("/users/1");
    await api.send("/users");
    api.users.failure = new Error("broken");
    await api.send("/users/1");
    refused = true;
    await api.send("/users/1");
    await api.send("/docs");
    refused = false;
    const scraped = await scrape(api);
    for (
      const [path, status] of [
        ["/users/:id", 503],
        ["/users", 503],
        ["/users/:id", 500],
        ["/users/:id", 429],
        ["/docs", 429],
      ] as const
    ) assertEquals(scraped[series("GET", path, status)], 1, `${path} ${status}`);
  });

  it("begins at 0 for each route, so that its first request shows in a rate", async () => {
    await using api = createApi();
    const scraped = await scrape(api);
    for (const { method, path } of api.routes) {
      assertEquals(scraped[series(method, path, 200)], 0, `${method} ${path}`);
    }
  });

  it("tells how late timers fired in the last minute", async () => {
    const stopping = new AbortController();
    await using api = createApi({ stopping: stopping.signal });
    await scrape(api); // begins to look
    await api.clock.advance(9_900);
    api.clock.jump(250);
    await api.clock.advance(0);
    const lag = async () => {
      const scraped = await scrape(api);
      return ["0.5", "0.99", "1"].map((rank) =>
        scraped[`event_loop_lag_seconds{quantile="${rank}"}`]
      );
    };
    assertEquals(await lag(), [0, 0, 0.15]);
    await api.clock.advance(60_000);
    assertEquals(await lag(), [0, 0, 0]);
    stopping.abort();
  });

  it("answers scrapes that overlap", async () => {
    await using api = createApi();
    const [one, other] = await Promise.all([scrape(api), scrape(api)]);
    assertEquals(Object.keys(one), Object.keys(other));
  });

  it("leaves out what Postgres and an audit would have to tell", async () => {
    await using api = createApi({ changes: { stats: () => Promise.reject(new Error("down")) } });
    const scraped = await scrape(api);
    assertEquals(scraped.database_up, 0);
    assertEquals(Object.keys(scraped).filter((name) => /^(relay|audit)/.test(name)), []);
  });

  it("counts the errors that were reported, which are still reported", async () => {
    await using api = createApi();
    api.users.failure = new DatabaseUnavailableError("Cannot query: down");
    await api.send("/users/1");
    await api.send("/users/2");
    api.users.failure = new Error("broken");
    await api.send("/users/3");
    const scraped = await scrape(api);
    assertEquals([scraped['errors_total{status="503"}'], scraped['errors_total{status="500"}']], [
      2,
      1,
    ]);
    assertEquals(api.errors.map(({ context }) => context.status), [503, 503, 500]);
  });
});

/** Makes each figure of the cache one of its own, so that none can stand for another. */
function watchStats(api: Api): void {
  const real = api.cache.stats();
  const latency = (at: number) => ({ count: at, p50Ms: at + 1, p99Ms: at + 2, maxMs: at + 3 });
  const counts = Object.keys(real).filter((name) => typeof Reflect.get(real, name) === "number");
  const stats = {
    ...real,
    ...Object.fromEntries(counts.map((name, at) => [name, 1_000 + at])),
    memory: { hits: 1, misses: 2, hitRate: 0.5, entries: 3, bytes: 4, evictions: 5 },
    redis: { hits: 6, misses: 7, hitRate: 0.5 },
    reachable: true,
    breaker: "open" as const,
    coherent: true,
    fallback: false,
    redisLatency: latency(2_000),
    loadLatency: latency(3_000),
  };
  api.cache.stats = () => stats;
}

/** The name of a count of requests. */
function series(method: string, route: string, status: number): string {
  return `requests_total{method="${method}",route="${route}",status="${status}"}`;
}

/** The samples of a scrape by name and labels, without the common prefix. */
async function scrape(api: Api, init: SendInit = {}): Promise<Record<string, number>> {
  const text = await (await api.send("/metrics", init)).text();
  const samples = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(samples.map((line) => {
    const [, name = "", value = ""] = /^lookaside_(\S+) (\S+)$/.exec(line) ?? [];
    return [name, Number(value)];
  }));
}
