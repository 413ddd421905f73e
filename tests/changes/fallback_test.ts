import { assert, assertEquals, assertRejects } from "@std/assert";
import { afterEach, beforeEach, describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "@db/driver";
import { Cache, type CacheOptions, type Lookup } from "../../cache/mod.ts";
import { type ChangesDatabase, InvalidationPendingError } from "../../changes/mod.ts";
import { postgresChanges } from "../../changes/postgres_changes.ts";
import { changesDatabase } from "../../db/changes_database.ts";
import type { Database } from "../../db/database.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { startTcpProxy, type TcpProxy } from "../../tools/servers/tcp_proxy.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";

const USERS = Array.from({ length: 20 }, (_, at) => at + 1);
const MEMORY_LEASE_MS = 2_000;

/** The other users: one that changed may be loaded twice, for its relay and its own look tell of it. */
const without = (id: number) => USERS.filter((each) => each !== id);

/** An instance: a cache over the table `users`, which counts what it loads. */
class Instance implements AsyncDisposable {
  readonly cache: Cache;
  readonly #database: Database;
  loads = 0;
  /** What loads of a user wait for before they answer. */
  readonly gates = new Map<number, Promise<void>>();

  constructor(redisUrl: string, databaseUrl: string, options: CacheOptions = {}) {
    this.#database = connect({ url: databaseUrl, poolMax: 4 });
    this.cache = new Cache({
      url: redisUrl,
      memoryLeaseMs: MEMORY_LEASE_MS,
      earlyRefreshBeta: 0,
      changes: postgresChanges(changesDatabase(this.#database)),
      ...options,
    });
  }

  async read(id: number, tags: readonly string[] = ["users:*"]): Promise<Lookup<string>> {
    return await this.cache.getOrLoad(`users:${id}`, async () => {
      this.loads++;
      const [row] = await this.#database.query<{ name: string }>(
        "SELECT name FROM users WHERE id = $1",
        [id],
      );
      await this.gates.get(id);
      return row?.name;
    }, { tags });
  }

  /** How many loads it takes to read these users. */
  async loadsOf(ids: readonly number[]): Promise<number> {
    const before = this.loads;
    for (const id of ids) await this.read(id);
    return this.loads - before;
  }

  /** Reads until memory answers all of them. */
  async hold(): Promise<void> {
    await eventually(async () => {
      for (const id of USERS) assertEquals((await this.read(id)).source, "memory");
    });
  }

  async standsIn(standsIn: boolean): Promise<void> {
    await eventually(() => {
      const { fallback, coherent } = this.cache.stats();
      assertEquals({ fallback, coherent }, { fallback: standsIn, coherent: true });
    });
  }

  /** Reads all users at once, again and again, and leaves the other processes some time. */
  async readUntil(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await Promise.all(USERS.map((id) => this.read(id)));
      await delay(2);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cache.close();
    await this.#database.close();
  }
}

describe("Memory that stands in for Redis", () => {
  let stack: AsyncDisposableStack;
  let redis: RedisServer;
  let postgres: TcpProxy;
  let writer: Database;
  let databaseUrl: string;
  let instances: [Instance, Instance];

  const rename = async (id: number, name: string) => {
    await writer.query("UPDATE users SET name = $1 WHERE id = $2", [name, id]);
  };

  beforeEach(async () => {
    await using building = new AsyncDisposableStack();
    const seeded = building.use(await createSeededDatabase(USERS.length));
    redis = building.use(await startRedis());
    const url = new URL(seeded.url);
    postgres = building.use(startTcpProxy(Number(url.port || 5432)));
    writer = building.use(connect({ url: seeded.url, poolMax: 2 }));
    url.host = `127.0.0.1:${postgres.port}`;
    databaseUrl = url.href;
    const open = () => building.use(new Instance(redis.url, url.href));
    instances = [open(), open()];
    for (const each of instances) {
      await eventually(() => each.cache.changes.caughtUp()); // it is refused where Redis is late
      await each.hold();
    }
    stack = building.move();
  });
  afterEach(() => stack.disposeAsync());

  it("keeps what it holds, and is told of a write by any means", async () => {
    const [one, other] = instances;
    await redis.kill();
    for (const each of instances) await each.standsIn(true);
    assertEquals(await one.loadsOf(USERS), 0);
    await rename(3, "Ada");
    for (const each of instances) {
      await eventually(async () => assertEquals((await each.read(3)).value(), "Ada"));
      assertEquals(await each.loadsOf(without(3)), 0);
    }
    await rename(4, "Grace");
    assertEquals(await other.cache.delete("users:4"), "pending");
    assertEquals((await other.read(4)).value(), "Grace");
    await redis.start();
    for (const each of instances) {
      await each.standsIn(false);
      assertEquals((await each.read(3)).value(), "Ada");
      assertEquals((await each.read(4)).value(), "Grace");
      await each.hold();
    }
  });

  it("has caught up once it is told of everything that was committed before", async () => {
    const [one] = instances;
    await redis.kill();
    await one.standsIn(true);
    for (const name of ["Ada", "Grace", "Barbara"]) {
      await rename(3, name);
      await one.cache.changes.caughtUp();
      assertEquals((await one.read(3)).value(), name);
      assertEquals(await one.loadsOf(without(3)), 0); // it was not cleared
    }
    postgres.cut();
    await assertRejects(() => one.cache.changes.caughtUp());
    postgres.pass();
    await redis.start();
    await one.standsIn(false);
    await one.cache.changes.caughtUp();
  });

  it("keeps what it loads if it was started without Redis, though the cache cannot be reset", async () => {
    const url = `redis://127.0.0.1:${freePort()}`;
    const errors: unknown[] = [];
    let attempts = 0;
    await using source = connect({ url: databaseUrl, poolMax: 2 });
    const whole = changesDatabase(source);
    const counted: ChangesDatabase = {
      ...whole,
      query: (sql, parameters) => {
        if (sql.includes("INSERT INTO lookaside.caches")) attempts++;
        return whole.query(sql, parameters);
      },
    };
    const onError = (error: unknown) => void errors.push(error);
    const changes = postgresChanges(counted, { onError });
    await using started = new Instance(url, databaseUrl, { changes });
    await started.standsIn(true);
    await started.hold();
    const before = attempts;
    await eventually(async () => {
      assertEquals(await started.loadsOf(USERS), 0);
      assert(attempts > before + 2, "the reset was not tried again");
    });
    assert(errors.some((error) => error instanceof InvalidationPendingError));
    await rename(3, "Ada");
    await eventually(async () => assertEquals((await started.read(3)).value(), "Ada"));
    assertEquals(await started.loadsOf(without(3)), 0);
  });

  it("never answers what changed before it began to", async () => {
    redis.pause();
    await rename(5, "Barbara");
    for (const each of instances) {
      await each.standsIn(true);
      assertEquals((await each.read(5)).value(), "Barbara");
      assertEquals(await each.loadsOf(without(5)), 0);
    }
    redis.resume();
    for (const each of instances) await each.standsIn(false);
    for (const each of instances) assertEquals((await each.read(5)).value(), "Barbara");
  });

  it("applies what changed meanwhile before it reads from Redis again over the same connection", async () => {
    for (const each of instances) await each.cache.close();
    // A connection counts as lost after four times this, and the outage is shorter.
    await using one = new Instance(redis.url, databaseUrl, { commandTimeoutMs: 1_500 });
    await one.cache.changes.caughtUp();
    await one.hold();
    redis.pause();
    await one.readUntil(() => one.cache.stats().fallback);
    await one.standsIn(true);
    await rename(3, "Ada");
    await eventually(async () => assertEquals((await one.read(3)).value(), "Ada"));
    redis.resume();
    await one.readUntil(() => !one.cache.stats().fallback);
    assertEquals((await one.read(3)).value(), "Ada");
    await one.hold();
  });

  it("loads what changed once, however often its relay has looked at it", async () => {
    await redis.kill();
    for (const each of instances) await each.standsIn(true);
    const before = instances.map(({ loads }) => loads);
    await rename(9, "Once");
    await eventually(async () => {
      for (const each of instances) assertEquals((await each.read(9)).value(), "Once");
      assert((await instances[0].cache.changes.stats()).lagMs > 2_500);
    });
    assertEquals(instances.map(({ loads }, at) => loads - (before[at] ?? 0)), [1, 1]);
    await rename(9, "Twice");
    for (const each of instances) {
      await eventually(async () => assertEquals((await each.read(9)).value(), "Twice"));
    }
    await redis.start();
    for (const each of instances) {
      await each.standsIn(false);
      assertEquals((await each.read(9)).value(), "Twice");
    }
  });

  it("does not keep what was read before a change and comes behind it", async () => {
    const [one] = instances;
    await redis.kill();
    await one.standsIn(true);
    await rename(6, "Old");
    await eventually(async () => assertEquals((await one.read(6)).value(), "Old"));
    await one.cache.delete("users:6");
    const { promise, resolve } = Promise.withResolvers<void>();
    one.gates.set(6, promise);
    const before = one.loads;
    const late = one.read(6);
    await eventually(() => assertEquals(one.loads, before + 1));
    await writer.query("SELECT 1"); // it has been read by now
    await rename(6, "New");
    await rename(7, "Told"); // whoever knows of this one knows of that
    await eventually(async () => assertEquals((await one.read(7)).value(), "Told"));
    one.gates.clear();
    resolve();
    await late;
    assertEquals((await one.read(6)).value(), "New");
  });

  it("keeps only what Postgres tells of", async () => {
    const [one] = instances;
    await redis.kill();
    await one.standsIn(true);
    for (const tags of [[], ["settings"], ["users:*", "settings"]]) {
      const before = one.loads;
      for (let times = 0; times < 2; times++) await one.read(1_000 + tags.length, tags);
      assertEquals(one.loads - before, 2);
    }
  });

  it("is believed no longer than the memory lease when Postgres is away as well", async () => {
    const [one] = instances;
    await redis.kill();
    await one.standsIn(true);
    const cutAtMs = performance.now();
    postgres.cut();
    await eventually(() => assert(!one.cache.stats().coherent));
    assert(performance.now() - cutAtMs < MEMORY_LEASE_MS + 1_000);
    await assertRejects(() => one.read(8));
    postgres.pass();
    await one.standsIn(true);
    assertEquals((await one.read(8)).value()?.length === 0, false);
  });
});
