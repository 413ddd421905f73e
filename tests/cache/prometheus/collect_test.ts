import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Registry } from "prom-client";
import { Cache, type Changes, type ChangesStats } from "../../../cache/mod.ts";
import { collect, Metrics } from "../../../cache/prometheus/mod.ts";

const relayed = { applied: 1, replayed: 2, backlog: 3, lagMs: 4_500, heldMs: 5_500, bytes: 6 };

/** A cache that is told of changes, whose figures are what `stats` answers. */
function openChanged(stats: () => Promise<ChangesStats>): Cache {
  const bare = new Cache().changes;
  const changes: Changes = { ...bare, stats, [Symbol.asyncDispose]: () => Promise.resolve() };
  return new Cache({ changes: { attach: () => changes } });
}

/** The samples of a scrape, by name and labels. */
async function scrape(registry: Registry): Promise<Record<string, number>> {
  const lines = (await registry.metrics()).split("\n").filter((line) => /^[^#]/.test(line));
  return Object.fromEntries(lines.map((line) => {
    const [, name = "", value = ""] = /^(\S+) (\S+)$/.exec(line) ?? [];
    return [name, Number(value)];
  }));
}

describe("collect()", () => {
  it("tells what the cache did by the time of each scrape", async () => {
    await using cache = new Cache();
    const registry = new Registry();
    collect(registry, cache);
    assertEquals((await scrape(registry)).lookaside_loads_total, 0);
    await cache.getOrLoad("a", () => Promise.resolve(1));
    await cache.getOrLoad("a", () => Promise.resolve(1));
    const scraped = await scrape(registry);
    assertEquals(scraped.lookaside_loads_total, 1);
    assertEquals(scraped['lookaside_hits_total{tier="memory"}'], 1);
    assertEquals(scraped.lookaside_memory_entries, 1);
  });

  it("reads the counters once for a scrape", async () => {
    await using cache = new Cache();
    let reads = 0;
    const registry = new Registry();
    const stats = () => {
      reads++;
      return cache.stats();
    };
    collect(registry, { stats, changes: cache.changes });
    await scrape(registry);
    assertEquals(reads, 1);
  });

  it("tells of changes where the cache is told of any, and nothing of them while it cannot", async () => {
    await using without = new Cache();
    const registry = new Registry();
    collect(registry, without);
    const names = Object.keys(await scrape(registry));
    assertEquals(names.filter((name) => /relay|database|outbox|held/.test(name)), []);

    let down = false;
    await using cache = openChanged(() =>
      down ? Promise.reject(new Error("down")) : Promise.resolve(relayed)
    );
    const changed = new Registry();
    collect(changed, cache);
    const scraped = await scrape(changed);
    assertEquals([scraped.lookaside_database_up, scraped.lookaside_relay_backlog], [1, 3]);
    assertEquals(scraped.lookaside_relay_lag_seconds, 4.5);
    down = true;
    const { lookaside_database_up: up, ...rest } = await scrape(changed);
    assertEquals([up, Object.keys(rest).filter((name) => /relay/.test(name))], [0, []]);
  });

  it("keeps two caches apart by their prefixes, and refuses two of one", async () => {
    await using orders = new Cache();
    await using users = new Cache();
    const registry = new Registry();
    collect(registry, orders, { prefix: "orders_" });
    collect(registry, users, { prefix: "users_" });
    await orders.getOrLoad("a", () => Promise.resolve(1));
    const scraped = await scrape(registry);
    assertEquals([scraped.orders_loads_total, scraped.users_loads_total], [1, 0]);
    assertThrows(() => collect(registry, users, { prefix: "users_" }), Error, "already been");
    for (const none of [{ prefx: "orders_" }, { prefix: 5 }, "orders_"]) {
      assertThrows(() => collect(registry, users, none as object), TypeError, "Cannot use");
    }
  });
});

describe("Metrics", () => {
  it("leaves out a figure that cannot be known, and a set of labels that is gone", async () => {
    const registry = new Registry();
    let known: number | undefined = 5;
    let states = ["on", "off"];
    const metrics = new Metrics(registry, "a_");
    metrics.gauge("known", "A figure", () => Promise.resolve(known));
    metrics.counter("states_total", "By state", () => states.map((state) => [1, { state }]), [
      "state",
    ]);
    assertEquals(await scrape(registry), {
      a_known: 5,
      'a_states_total{state="on"}': 1,
      'a_states_total{state="off"}': 1,
    });
    known = undefined;
    states = ["off"];
    assertEquals(await scrape(registry), { 'a_states_total{state="off"}': 1 });
  });

  it("tells durations in seconds", async () => {
    const registry = new Registry();
    const read = () => ({ p50Ms: 1, p99Ms: 20, maxMs: 3_000 });
    new Metrics(registry, "a_").quantiles("wait_seconds", "Waits", read);
    const scraped = await scrape(registry);
    assert(Object.keys(scraped).length === 3);
    assertEquals(scraped['a_wait_seconds{quantile="0.99"}'], 0.02);
    assertEquals(scraped['a_wait_seconds{quantile="1"}'], 3);
  });
});
