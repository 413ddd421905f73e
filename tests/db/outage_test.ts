import { assert, assertEquals, assertLess, assertRejects } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { type Database, DatabaseUnavailableError } from "../../db/database.ts";
import { usersRows } from "../support/users_rows.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { type PostgresServer, startPostgres } from "../../tools/servers/postgres_server.ts";
import { startTcpProxy } from "../../tools/servers/tcp_proxy.ts";
import { later } from "../support/later.ts";

const connectTimeoutMs = 400;
const statementTimeoutMs = 400;
/** Slack for a busy machine. */
const slackMs = 1_500;
const limitMs = connectTimeoutMs + statementTimeoutMs + slackMs;

let server: PostgresServer;

async function elapsedMs(run: () => Promise<unknown>): Promise<number> {
  const startedAtMs = performance.now();
  await run();
  return performance.now() - startedAtMs;
}

/** Asks as often as a busy service, and expects nothing worse than "not now". */
async function assertAnswersOrUnavailable(database: Database, times: number): Promise<number> {
  const outcomes = await Promise.allSettled(
    Array.from({ length: times }, (_, n) => database.query("SELECT $1::int AS n", [n])),
  );
  const reasons = outcomes.flatMap((outcome) =>
    outcome.status === "rejected" ? [outcome.reason] : []
  );
  for (const reason of reasons) {
    assert(reason instanceof DatabaseUnavailableError, `${reason?.stack ?? reason}`);
    assert(reason.cause instanceof Error);
  }
  return times - reasons.length;
}

describe("@db/driver in an outage", () => {
  beforeAll(async () => {
    server = await startPostgres();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  it("query() rejects at once while nothing listens", async () => {
    await using database = connect({ url: `postgres://postgres@127.0.0.1:${freePort()}/x` });
    const tookMs = await elapsedMs(async () => {
      assertEquals(await assertAnswersOrUnavailable(database, 100), 0);
    });
    assertLess(tookMs, slackMs);
  });

  it("query() names neither user nor password in its error", async () => {
    await using database = connect({ url: `postgres://annabel:hunter2@127.0.0.1:${freePort()}/x` });
    const error = await assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError);
    assertEquals(/annabel|hunter2/.test(Deno.inspect(error)), false);
  });

  it("query() works again after a restart under load, on every connection, by itself", async () => {
    for (let round = 0; round < 3; round++) {
      await using database = connect({ url: server.url, connectTimeoutMs, poolMax: 8 });
      let loading = true;
      const load = later(Promise.all(Array.from({ length: 32 }, async () => {
        while (loading) await assertAnswersOrUnavailable(database, 1);
      })));
      await assertAnswersOrUnavailable(database, 50);
      await server.restart();
      loading = false;
      await load;
      // The first of them may still meet a connection that broke while idle.
      await eventually(() => database.query("SELECT 1"), { deadlineMs: limitMs });
      const tookMs = await elapsedMs(async () => {
        assertEquals(await assertAnswersOrUnavailable(database, 200), 200);
      });
      assertLess(tookMs, slackMs);
    }
  });

  it("query() gives up on a server that hangs, and works again when it is back", async () => {
    await using proxy = startTcpProxy(server.port);
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    await using database = connect({ url, connectTimeoutMs, statementTimeoutMs, poolMax: 4 });
    await database.query("SELECT 1");
    proxy.hang();
    const tookMs = await elapsedMs(async () => {
      assertEquals(await assertAnswersOrUnavailable(database, 30), 0);
    });
    assertLess(tookMs, limitMs);
    proxy.pass();
    await eventually(() => database.query("SELECT 1"));
    // Each connection of the pool may be found broken once.
    await eventually(async () => {
      assertEquals(await assertAnswersOrUnavailable(database, 30), 30);
    });
  });

  it("query() leaves a server that takes no writes any more for the one that its address leads to", async () => {
    await using next = await startPostgres();
    await using proxy = startTcpProxy(server.port);
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    await using database = connect({ url, connectTimeoutMs, poolMax: 4 });
    const create = "CREATE TABLE written (n INT)";
    await database.query(create);
    await using past = connect({ url: next.url, poolMax: 1 });
    await past.query(create);
    await using before = connect({ url: server.url, poolMax: 1 });
    await before.query("ALTER SYSTEM SET default_transaction_read_only = on");
    await before.query("SELECT pg_reload_conf()");
    proxy.redirect(next.port);
    let unavailable = 0;
    await eventually(async () => {
      try {
        await database.query("INSERT INTO written VALUES (1)");
      } catch (error) {
        assert(error instanceof DatabaseUnavailableError, String(error));
        unavailable++;
        throw error;
      }
    });
    assert(unavailable > 0, "it has left before it was told");
    assertEquals((await past.query("SELECT n FROM written")).length, 1);
    await before.query("SET default_transaction_read_only = off");
    await before.query("ALTER SYSTEM RESET default_transaction_read_only");
    await before.query("SELECT pg_reload_conf()");
  });

  it("query() and transaction() refuse at once what would wait past the bound, until some are done", async () => {
    await using database = connect({ url: server.url, poolMax: 1, queueMax: 2 });
    await using other = connect({ url: server.url, poolMax: 1 });
    await other.query("SELECT pg_advisory_lock(7)");
    const waiting = [
      database.query("SELECT pg_advisory_lock_shared(7)"),
      database.query("SELECT 1"),
      database.transaction((transaction) => transaction.query("SELECT 1")),
    ];
    const tookMs = await elapsedMs(async () => {
      await assertRejects(
        () => database.query("SELECT 1"),
        DatabaseUnavailableError,
        "3 statements",
      );
      await assertRejects(
        () => database.transaction((transaction) => transaction.query("SELECT 1")),
        DatabaseUnavailableError,
      );
    });
    assertLess(tookMs, slackMs);
    await other.query("SELECT pg_advisory_unlock(7)");
    await Promise.all(waiting);
    assertEquals(await assertAnswersOrUnavailable(database, 3), 3);
  });

  it("query() gives up waiting for a connection, and leaves it to those that come later", async () => {
    const limits = { connectTimeoutMs: 200, statementTimeoutMs: 200 };
    await using database = connect({ url: server.url, ...limits, poolMax: 1 });
    const waited = Promise.withResolvers<void>();
    const holding = later(database.transaction(() => waited.promise));
    const tookMs = await elapsedMs(() =>
      assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError)
    );
    assertLess(tookMs, 400 + slackMs);
    waited.resolve();
    await holding;
    assertEquals(await assertAnswersOrUnavailable(database, 3), 3);
  });

  it("transaction() gives up on a server that hangs in the middle", async () => {
    await using proxy = startTcpProxy(server.port);
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    await using database = connect({ url, connectTimeoutMs, statementTimeoutMs });
    const tookMs = await elapsedMs(() =>
      assertRejects(() =>
        database.transaction(async (transaction) => {
          await transaction.query("SELECT 1");
          proxy.hang();
          await transaction.query("SELECT 1");
        }), DatabaseUnavailableError)
    );
    assertLess(tookMs, limitMs);
    proxy.pass();
    await eventually(() => database.query("SELECT 1"), { deadlineMs: 5_000 });
  });

  it("transaction() gives up on a server that hangs before it begins, and as it ends", async () => {
    await using proxy = startTcpProxy(server.port);
    const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
    await using database = connect({ url, connectTimeoutMs, statementTimeoutMs });
    let began = 0;
    const hangs = {
      begin: async () => {
        proxy.hang();
        await database.transaction(() => Promise.resolve(began++));
      },
      end: () =>
        database.transaction(async (transaction) => {
          await transaction.query("SELECT 1");
          proxy.hang();
        }),
    };
    for (const hang of Object.values(hangs)) {
      await database.query("SELECT 1"); // there is a connection that hangs
      const tookMs = await elapsedMs(() => assertRejects(hang, DatabaseUnavailableError));
      assertLess(tookMs, limitMs);
      proxy.pass();
      await eventually(() => database.query("SELECT 1"), { deadlineMs: 5_000 });
    }
    assertEquals(await database.transaction(() => Promise.resolve(began)), 0);
  });

  describe("whose connections are cut", {
    // The JSR driver notices the loss of an idle connection with the next statement, and has no LISTEN.
    ignore: import.meta.resolve("@db/driver").includes("deno_postgres"),
  }, () => {
    /** Cuts every connection but its own, as an administrator does. */
    async function cut(): Promise<void> {
      await using other = connect({ url: server.url, poolMax: 1 });
      await other.query(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity " +
          "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
      );
    }

    it("query() meets none that was lost while it was idle", async () => {
      await using database = connect({ url: server.url, poolMax: 4 });
      await Promise.all(Array.from({ length: 4 }, () => database.query("SELECT pg_sleep(0.05)")));
      await cut();
      await eventually(() => database.query("SELECT 1"));
      assertEquals(await assertAnswersOrUnavailable(database, 30), 30);
    });

    it("query() of one that goes nowhere is given up, and others are answered meanwhile", async () => {
      await using proxy = startTcpProxy(server.port);
      const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
      await using database = connect({ url, connectTimeoutMs, statementTimeoutMs, poolMax: 2 });
      await database.query("SELECT 1");
      proxy.strand();
      const stranded = database.query("SELECT 1");
      const others = async () => {
        for (let asked = 0; asked < 20; asked++) await database.query("SELECT pg_sleep(0.05)");
      };
      const tookMs = await elapsedMs(() => assertRejects(() => stranded, DatabaseUnavailableError));
      assertLess(tookMs, limitMs);
      await others();
    });

    it("listen() says that it cannot go on, and goes on later", async () => {
      await using proxy = startTcpProxy(server.port);
      const url = `postgres://postgres@127.0.0.1:${proxy.port}/postgres`;
      const errors: unknown[] = [];
      const onListenError = (error: unknown) => void errors.push(error);
      await using database = connect({ url, poolMax: 2, onListenError });
      const heard: string[] = [];
      await using _subscription = await database.listen("cut", (text) => void heard.push(text));
      assertEquals(errors, []);
      proxy.cut();
      await eventually(() => assert(errors.at(-1) instanceof DatabaseUnavailableError));
      proxy.pass();
      await eventually(async () => {
        await database.query("SELECT pg_notify('cut', 'heard')");
        assert(heard.includes("heard"));
      });
    });

    it("listen() goes on", async () => {
      await using database = connect({ url: server.url, poolMax: 2 });
      const heard: string[] = [];
      await using _subscription = await database.listen(
        "cut",
        (payload) => void heard.push(payload),
      );
      for (const round of ["one", "two"]) {
        await cut();
        await eventually(async () => {
          await database.query("SELECT pg_notify('cut', $1)", [round]);
          assert(heard.includes(round));
        });
      }
    });
  });

  it("find() of rows rejects every caller of a batch with DatabaseUnavailableError", async () => {
    await using database = connect({ url: `postgres://postgres@127.0.0.1:${freePort()}/x` });
    const users = usersRows(database);
    const outcomes = await Promise.allSettled([1, 2, 3].map((id) => users.find([`${id}`])));
    for (const outcome of outcomes) {
      assert(outcome.status === "rejected" && outcome.reason instanceof DatabaseUnavailableError);
    }
  });
});
