import { assert, assertEquals, assertRejects } from "@std/assert";
import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { type Database, DatabaseUnavailableError } from "../../db/database.ts";
import { connect } from "../../db/drivers/pg.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import {
  type PostgresServer,
  startPostgres,
  startStandby,
} from "../../tools/servers/postgres_server.ts";
import { startTcpProxy } from "../../tools/servers/tcp_proxy.ts";

const connectTimeoutMs = 1_000;

/** The URL of several servers. */
function urlOf(...ports: readonly number[]): string {
  const hosts = ports.map((port) => `127.0.0.1:${port}`).join(",");
  return `postgres://postgres@${hosts}/postgres?target_session_attrs=read-write`;
}

async function portOf(database: Database): Promise<number> {
  const [row] = await database.query<{ port: number }>("SELECT inet_server_port() AS port");
  return row?.port ?? NaN;
}

/** Runs one statement on a server by itself, be it a standby. */
async function on(server: PostgresServer, statement: string): Promise<void> {
  const { default: postgres } = await import("postgres");
  const sql = postgres(server.url, { max: 1, onnotice: () => undefined });
  try {
    await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

describe("connect() to several servers", () => {
  let stack: AsyncDisposableStack;
  let primary: PostgresServer;
  let standby: PostgresServer;

  const startServers = async () => {
    stack = new AsyncDisposableStack();
    primary = stack.use(await startPostgres());
    await on(primary, "CREATE TABLE written (n INT)");
    standby = stack.use(await startStandby(primary));
  };
  const stopServers = () => stack.disposeAsync();

  describe("of which none changes", () => {
    beforeAll(startServers);
    afterAll(stopServers);

    it("asks the first one that can be reached and takes writes, from the first statement on", async () => {
      for (
        const ports of [
          [primary.port, standby.port],
          [standby.port, primary.port],
          [freePort(), standby.port, primary.port],
        ]
      ) {
        await using database = connect({ url: urlOf(...ports), connectTimeoutMs });
        assertEquals(await portOf(database), primary.port);
        assertEquals(
          await database.transaction(async (transaction) => {
            const [row] = await transaction.query<{ port: number }>(
              "SELECT inet_server_port() AS port",
            );
            return row?.port;
          }),
          primary.port,
        );
      }
    });

    it("listens at the one that takes writes, whatever else it is used for", async () => {
      const url = urlOf(freePort(), standby.port, primary.port);
      await using database = connect({ url, connectTimeoutMs, poolMax: 1 });
      const heard: string[] = [];
      await eventually(() => database.listen("told", (payload) => void heard.push(payload)));
      await on(primary, "SELECT pg_notify('told', 'it')");
      await eventually(() => assert(heard.includes("it")));
    });

    it("leaves one that does not answer with all connections to it", async () => {
      await using proxy = startTcpProxy(primary.port);
      const url = urlOf(proxy.port, primary.port);
      const limits = { connectTimeoutMs: 400, statementTimeoutMs: 400 };
      await using database = connect({ url, ...limits, poolMax: 4 });
      const askedOnAll = () =>
        Promise.all(Array.from({ length: 4 }, () => database.query("SELECT pg_sleep(0.05)")));
      await askedOnAll();
      proxy.hang();
      await assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError);
      await askedOnAll();
      proxy.pass();
    });

    it("rejects at once while none can be reached", async () => {
      await using database = connect({ url: urlOf(freePort(), freePort()), connectTimeoutMs });
      const startedAtMs = performance.now();
      for (let asked = 0; asked < 20; asked++) {
        await assertRejects(() => database.query("SELECT 1"), DatabaseUnavailableError);
      }
      assert(performance.now() - startedAtMs < connectTimeoutMs * 5);
    });
  });

  describe("of which another becomes the primary", () => {
    beforeEach(startServers);
    afterEach(stopServers);

    it("answers nothing from a standby, and writes to it once it is promoted", async () => {
      const url = urlOf(primary.port, standby.port);
      await using database = connect({ url, connectTimeoutMs });
      const heard: string[] = [];
      await database.listen("told", (payload) => void heard.push(payload));
      await database.query("INSERT INTO written VALUES (1)");
      await primary.kill();
      for (let asked = 0; asked < 50; asked++) {
        await assertRejects(
          () => database.query("SELECT n FROM written"),
          DatabaseUnavailableError,
        );
      }
      await assertRejects(
        () => database.transaction((transaction) => transaction.query("SELECT n FROM written")),
        DatabaseUnavailableError,
      );
      await on(standby, "SELECT pg_promote()");
      await eventually(() => database.query("INSERT INTO written VALUES (2)"));
      assertEquals(await portOf(database), standby.port);
      await eventually(async () => {
        await database.query("SELECT pg_notify('told', 'after')");
        assert(heard.includes("after"));
      });
    });

    it("leaves a server that takes no writes any more, however it answers reads", async () => {
      const url = urlOf(primary.port, standby.port);
      await using database = connect({ url, connectTimeoutMs, poolMax: 4 });
      const heard: string[] = [];
      await database.listen("told", (payload) => void heard.push(payload));
      await Promise.all(Array.from({ length: 4 }, () => database.query("SELECT pg_sleep(0.1)")));
      await on(standby, "SELECT pg_promote()");
      await on(primary, "ALTER SYSTEM SET default_transaction_read_only = on");
      await on(primary, "SELECT pg_reload_conf()");
      await on(standby, "INSERT INTO written VALUES (3)");
      // Reads alone: none of the servers refuses them.
      await eventually(async () => {
        const { read_only } = (await database.query<{ read_only: string }>(
          "SELECT current_setting('default_transaction_read_only') AS read_only",
        ))[0] ?? { read_only: "" };
        assertEquals(read_only, "off", "it believes the primary of before");
      });
      await eventually(async () => {
        assertEquals((await database.query("SELECT n FROM written")).length, 1);
      });
      await database.query("INSERT INTO written VALUES (4)");
      await eventually(async () => {
        await database.query("SELECT pg_notify('told', 'after')");
        assert(heard.includes("after"));
      });
    });
  });
});
