import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
// @ts-types="../support/pg.d.ts"
import pg from "pg";
import { Cache, systemRuntime } from "../../cache/mod.ts";
import type { AnyDatabase } from "../../changes/mod.ts";
import { startTcpProxy } from "../../tools/servers/tcp_proxy.ts";
import { changesDatabase } from "../../db/changes_database.ts";
import type { ChangesDatabase } from "../../changes/database.ts";
import type { ChangesProblem } from "../../changes/health.ts";
import type { PostgresChangesOptions } from "../../changes/options.ts";
import { postgresChanges } from "../../changes/postgres_changes.ts";
import { installChanges } from "../../changes/install.ts";
import { changesVersion } from "../../changes/schema.ts";
import { createTestDatabase } from "../support/test_database.ts";
import { FakeClock } from "../support/fake_runtime.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";

describe("postgresChanges()", () => {
  it("has a cache read what was written by any means, once it has caught up", async () => {
    await using seeded = await createSeededDatabase(3);
    await using database = connect({ url: seeded.url, poolMax: 3 });
    // Nobody is told what was invalidated.
    const changes = postgresChanges(changesDatabase(database));
    await using cache = new Cache({ changes });
    await cache.changes.caughtUp();
    const load = async () =>
      (await database.query<{ name: string }>("SELECT name FROM users WHERE id = 1"))[0]?.name;
    for (const name of ["Ada", "Grace", "Barbara"]) {
      await database.query("UPDATE users SET name = $1 WHERE id = 1", [name]);
      await cache.changes.caughtUp();
      assertEquals((await cache.getOrLoad("users:1", load, { tags: ["users:*"] })).value(), name);
    }
  });

  it("follows changes over other connections when one has been silent for long", async () => {
    await using seeded = await createSeededDatabase(1);
    await using direct = connect({ url: seeded.url, poolMax: 1 });
    const url = new URL(seeded.url);
    await using proxy = startTcpProxy(Number(url.port));
    url.port = `${proxy.port}`;
    const pool = new pg.Pool({ connectionString: url.href });
    pool.on("error", () => undefined);
    const { clock } = systemRuntime;
    const hurried = {
      ...clock,
      after: (ms: number, run: () => void) => clock.after(ms === 30_000 ? 300 : ms, run),
    };
    const cache = new Cache({
      changes: postgresChanges(pool as AnyDatabase),
      runtime: { ...systemRuntime, clock: hurried },
    });
    await cache.changes.caughtUp();
    const load = async () => (await direct.query("SELECT name FROM users WHERE id = 1"))[0];
    const read = async () =>
      (await cache.getOrLoad("users:1", load, { tags: ["users:*"] })).value();
    await read();
    proxy.strand();
    await direct.query("UPDATE users SET name = 'Ada' WHERE id = 1");
    await eventually(async () => assertEquals(await read(), { name: "Ada" }));
    await cache.close();
    await proxy[Symbol.asyncDispose](); // which ends the silent connections
    await pool.end();
  });

  it("does not install by itself where all tables are published, which would stop a subscriber", async () => {
    await using empty = await createTestDatabase();
    await using database = connect({ url: empty.url, poolMax: 3 });
    const changes = changesDatabase(database);
    const query = (sql: string) => database.query(sql);
    await query("CREATE PUBLICATION everything FOR ALL TABLES");
    await using cache = new Cache({ changes: postgresChanges(changes) });
    const error = await assertRejects(() => cache.changes.caughtUp(), Error, "FOR ALL TABLES");
    assertMatch(error.message, /everything .*npx @lookaside\/changes install/);
    assertEquals(await query("SELECT 1 FROM pg_namespace WHERE nspname = 'lookaside'"), []);
    // Whoever does so by hand has thought of it. From then on, programs may bring later versions.
    await installChanges(changes);
    await query("UPDATE lookaside.installed SET version = 1");
    await cache.changes.caughtUp();
    assertEquals(await query("SELECT version FROM lookaside.installed"), [
      { version: changesVersion },
    ]);
  });

  it("refuses durations with which it would ask all the time, or never be answered", () => {
    const refused: readonly PostgresChangesOptions[] = [
      ...[0, 0.5, -1, NaN].map((pollMs) => ({ pollMs })),
      ...[-1, NaN, Infinity].map((replayWindowMs) => ({ replayWindowMs })),
    ];
    for (const options of refused) {
      assertThrows(() => postgresChanges(ailing, options), RangeError, "it must be a number from");
    }
    postgresChanges(ailing, { pollMs: Infinity, replayWindowMs: 0 });
    const misspelt: object = { onEror: () => undefined };
    assertThrows(
      () => postgresChanges(ailing, misspelt),
      TypeError,
      "Cannot use the option onEror: there is none of this name, but cacheName, install, ",
    );
  });

  it("refuses options of another type, such as texts from the environment", async () => {
    const refused: Readonly<Record<string, unknown>> = {
      "Cannot use install: it must be of type boolean, not string": { install: "false" },
      "Cannot use fallback: it must be of type boolean, not number": { fallback: 0 },
      "Cannot use onError: it must be of type function, not object": { onError: null },
    };
    for (const [message, options] of Object.entries(refused)) {
      assertThrows(() => postgresChanges(ailing, options as object), TypeError, message);
    }
    for (const none of [null, [], new Map(), Promise.resolve({}), () => ({})]) {
      const message = "Cannot use these options: they must be an object";
      assertThrows(() => postgresChanges(ailing, none as object), TypeError, message);
    }
    const text = JSON.parse('{ "pollMs": "5" }');
    assertThrows(() => postgresChanges(ailing, text), RangeError, 'Cannot use pollMs "5"');
    postgresChanges(ailing, Object.create(null));
    for (const none of [{ servce: "app" }, { service: 5 }, null]) {
      await assertRejects(() => installChanges(ailing, none as object), TypeError, "Cannot use");
    }
  });

  /** A database where a table is not watched as it should be, and nothing else is there. */
  const ailing: ChangesDatabase = {
    query: <Row>(sql: string) => {
      const found = sql.includes("AS there")
        ? { there: true }
        : sql.includes("lookaside.installed")
        ? { version: 9999 }
        : sql.includes("lookaside.check()")
        ? { label: "users", problem: "It has no triggers", remedy: "Run this" }
        : undefined;
      return found === undefined
        ? Promise.reject(new Error("down"))
        : Promise.resolve([found as Row]);
    },
    transaction: () => Promise.reject(new Error("down")),
  };

  it("tells of what a person has to put right: who asks for it, else who hears of errors", async () => {
    const problems: ChangesProblem[] = [];
    const errors: unknown[] = [];
    const onError = (error: unknown) => void errors.push(error instanceof Error && error.message);
    const onProblem = (problem: ChangesProblem) => void problems.push(problem);
    for (const options of [{ onError, onProblem }, { onError }]) {
      await using cache = new Cache({ changes: postgresChanges(ailing, options) });
      await assertRejects(() => cache.changes.caughtUp());
    }
    assertEquals(problems.map(({ problem, remedy }) => `${problem}. ${remedy}`), [
      "It has no triggers. Run this",
    ]);
    assertEquals(errors.filter((each) => each === "It has no triggers. Run this").length, 1);
  });

  it("tells of the same error once a minute, and of no more than 100 within one", async () => {
    const clock = new FakeClock();
    let failed = 0;
    let reason = "down";
    const errors: string[] = [];
    const fail = () => {
      failed++;
      return Promise.reject(new Error(reason));
    };
    const onError = (error: unknown) => void errors.push(`${error}`);
    await using cache = new Cache({
      runtime: { clock, random: () => 0.5 },
      changes: postgresChanges({ query: fail, transaction: fail }, { onError, install: false }),
    });
    await clock.advance(59_000);
    assertGreater(failed, 20);
    assertEquals(errors, ["Error: down"]);
    await clock.advance(5_000);
    assertEquals(errors, ["Error: down", "Error: down"]);
    for (let n = 0; n < 200; n++) {
      reason = `down as well: ${n}`;
      const use = { schema: "public", name: `table ${n}`, key: ["id"], columns: [] };
      await assertRejects(() => cache.changes.watched(use), Error, reason);
    }
    assertEquals(errors.length, 1 + 100);
  });

  for (const url of ["memory:", `redis://127.0.0.1:${freePort()}`]) {
    it(`ends with its cache while Postgres hangs, also without Redis: ${url.slice(0, 6)}`, async () => {
      await using seeded = await createSeededDatabase(1);
      await using real = connect({ url: seeded.url, poolMax: 3 });
      const { query, transaction } = changesDatabase(real);
      let hung = -1;
      const ask = <T>(answer: () => Promise<T>) =>
        hung < 0 ? answer() : (hung++, new Promise<never>(() => undefined));
      const database: ChangesDatabase = {
        query: (...statement) => ask(() => query(...statement)),
        transaction: (run) => ask(() => transaction(run)),
      };
      const cache = new Cache({ url, changes: postgresChanges(database, { pollMs: 10 }) });
      await eventually(() => cache.changes.caughtUp());
      hung = 0;
      await eventually(() => assert(hung > 0));
      await cache.close();
    });
  }

  it("goes on applying changes when the handlers of the program throw or reject", async () => {
    await using seeded = await createSeededDatabase(1);
    await using real = connect({ url: seeded.url, poolMax: 3 });
    const told = { invalidated: 0, errors: 0 };
    const fail = (what: keyof typeof told) => () => {
      if (++told[what] % 2 === 0) throw new Error("a bug of the owner");
      return Promise.reject(new Error("a bug of the owner"));
    };
    let isDown = false;
    const whole = changesDatabase(real);
    const database: ChangesDatabase = {
      ...whole,
      query: (...args) =>
        isDown ? Promise.reject(new Error(`down ${told.errors}`)) : whole.query(...args),
    };
    await using cache = new Cache({
      changes: postgresChanges(database, {
        listen: false,
        pollMs: 10,
        onError: fail("errors"),
        onInvalidated: fail("invalidated"),
      }),
    });
    await cache.changes.caughtUp();
    for (const name of ["Ada", "Grace", "Barbara"]) {
      await cache.set("users:1", "old", { tags: ["users:*"] });
      const { errors } = told;
      isDown = true;
      await eventually(() => assert(told.errors > errors));
      isDown = false;
      await real.query("UPDATE users SET name = $1 WHERE id = 1", [name]);
      await eventually(async () => assertEquals(await cache.has("users:1"), false));
    }
    assert(told.invalidated >= 3);
  });

  it("clears the cache for a change of which `invalidates` cannot say the names", async () => {
    await using seeded = await createSeededDatabase(1);
    await using database = connect({ url: seeded.url, poolMax: 3 });
    const errors: unknown[] = [];
    let bug = "a bug of the owner";
    const changes = postgresChanges(changesDatabase(database), {
      invalidates: {
        users: () => {
          throw new Error(bug);
        },
      },
      listen: false, // the JSR driver cannot, and would say so
      onError: (error) => errors.push(error instanceof Error && error.message),
    });
    await using cache = new Cache({ changes });
    await cache.changes.caughtUp();
    await cache.set("any", 1);
    await database.query("UPDATE users SET name = 'Ada'");
    await cache.changes.caughtUp();
    assertEquals([await cache.has("any"), errors], [false, ["a bug of the owner"]]);
    await cache.set("any", 2); // and the change is done with
    await cache.changes.caughtUp();
    assertEquals(await cache.has("any"), true);
    bug = "another one";
    {
      using write = await cache.changes.beginWrite();
      await database.transaction(async (tx) => {
        await tx.query("SELECT set_config('lookaside.writer', $1, TRUE)", [write.mark]);
        await tx.query("UPDATE users SET name = 'Grace'");
      });
      write.invalidated({ keys: ["users:1"], tags: [] });
    }
    await cache.changes.caughtUp();
    assertEquals([await cache.has("any"), errors], [false, ["a bug of the owner", "another one"]]);
  });
});
