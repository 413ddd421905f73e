import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, beforeAll, it } from "@std/testing/bdd";
import type postgres from "postgres";
import { Cache, systemRuntime } from "../../cache/mod.ts";
import type { ChangesDatabase } from "../../changes/database.ts";
import { fromPostgresJs } from "../../changes/adapters/postgres_js.ts";
import { run } from "../../changes/cli.ts";
import { installChanges } from "../../changes/install.ts";
import { postgresChanges, table } from "../../changes/mod.ts";
import { Follower } from "../../changes/follower.ts";
import { ChangeFeed } from "../../changes/relay.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase } from "../support/test_database.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";
import { trapsSql } from "./_traps.ts";

/** Would make whoever runs it a superuser, and says so where it cannot. */
const RISE = `CREATE FUNCTION pg_temp.rise() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('attack.ran_as', current_user, FALSE);
  END $$`;

/**
 * The schema installed by a superuser, so that whatever runs as its owner may do everything, and a writer
 * who may do nothing but write to one table.
 */
export function attacksSuite(server: () => string): void {
  let fixture: ChangesFixture;
  let writer: postgres.Sql;
  let name: string;

  /** What the writer ran as somebody else, and what was noted of it. */
  async function attack(statement: string): Promise<{ ranAs: string; noted: unknown[] }> {
    await fixture.noted();
    await writer.unsafe(`BEGIN; ${statement}`);
    const [row] = await writer<{ as: string | null }[]>`
      SELECT current_setting('attack.ran_as', TRUE) AS as`;
    await writer.unsafe("COMMIT");
    await writer.unsafe("DISCARD ALL");
    const ranAs = row?.as ?? "";
    return { ranAs: ranAs === name ? "" : ranAs, noted: await fixture.noted() };
  }

  beforeAll(async () => {
    fixture = await createChangesDatabase(server());
    await fixture.admin.unsafe("DROP SCHEMA lookaside CASCADE");
    await installChanges(fromPostgresJs(fixture.admin), { service: fixture.serviceRole });
    const role = await fixture.makeRole();
    name = role.name;
    await fixture.admin.unsafe(
      `GRANT TEMPORARY ON DATABASE ${new URL(role.url).pathname.slice(1)} TO ${name};
      GRANT USAGE ON SCHEMA lookaside TO ${
        fixture.urls.owner && new URL(fixture.urls.owner).username
      };
      GRANT SELECT, DELETE ON lookaside.outbox TO ${new URL(fixture.urls.owner).username};
      CREATE SCHEMA mine AUTHORIZATION ${name};
      CREATE TABLE users (id INT PRIMARY KEY, name TEXT); INSERT INTO users SELECT 1, 'x';
      GRANT SELECT, UPDATE ON users TO ${name}; SELECT lookaside.watch('users', columns => '{name}', matter => '{}')`,
    );
    writer = fixture.connect(role.url, { max: 1 });
  });
  afterAll(async () => {
    await fixture.admin.unsafe(`DROP OWNED BY ${name} CASCADE`);
    await fixture[Symbol.asyncDispose]();
  });

  const noted = [{ label: "users", keys: ["1"], values: ["name=x", "name=y"] }];
  const UPDATE = "UPDATE users SET name = 'y'";

  const shadows: readonly (readonly [string, string])[] = [
    [
      "a temporary outbox",
      `CREATE TEMP TABLE outbox (label text, keys text[], column_values text[], writer text);
      GRANT ALL ON outbox TO PUBLIC; CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_temp.rise(); RETURN NULL; END $$;
      CREATE TRIGGER t BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION pg_temp.f()`,
    ],
    [
      "temporary new_rows and old_rows",
      `CREATE TEMP TABLE new_rows (id int, name text);
      CREATE TEMP TABLE old_rows (id int, name text); GRANT ALL ON new_rows, old_rows TO PUBLIC`,
    ],
    [
      "operators of its own",
      `CREATE FUNCTION mine.f(text, text) RETURNS text LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_temp.rise(); RETURN ''; END $$;
      CREATE FUNCTION mine.b(text, text) RETURNS boolean LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_temp.rise(); RETURN FALSE; END $$;
      CREATE OPERATOR mine.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.f);
      CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.b);
      CREATE OPERATOR mine.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.b);
      SET LOCAL search_path = mine, pg_catalog, public`,
    ],
    [
      "functions of its own",
      `CREATE FUNCTION mine.format(text, int) RETURNS text LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_temp.rise(); RETURN ''; END $$;
      CREATE FUNCTION mine.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_temp.rise(); END $$; SET LOCAL search_path = mine, pg_catalog, public`,
    ],
  ];
  for (const [what, statement] of shadows) {
    it(`rises to nothing by ${what}, and the change is noted`, async () => {
      await fixture.admin.unsafe("UPDATE users SET name = 'x'");
      const found = await attack(`${RISE}; ${statement}; ${UPDATE}`);
      assertEquals(found, { ranAs: "", noted });
      await fixture.admin.unsafe(
        `DROP SCHEMA mine CASCADE; CREATE SCHEMA mine AUTHORIZATION ${name}`,
      );
    });
  }

  it("cannot hang a trigger function on a table of its own", async () => {
    const functions = await fixture.admin<{ name: string }[]>`
      SELECT oid::REGPROCEDURE::TEXT AS name FROM pg_proc WHERE pronamespace = 'lookaside'::REGNAMESPACE`;
    assert(functions.length > 20);
    await fixture.admin.unsafe(`GRANT USAGE ON SCHEMA lookaside TO ${name}`);
    for (const { name: of } of functions) {
      const [may] = await writer<{ may: boolean }[]>`
        SELECT has_function_privilege(${of}, 'EXECUTE') AS may`;
      assertEquals(may?.may, false, of);
    }
    await writer.unsafe("CREATE TABLE mine.t (id int)");
    const error = await assertRejects(
      () =>
        writer.unsafe(`CREATE TRIGGER x AFTER TRUNCATE ON mine.t FOR EACH STATEMENT
        EXECUTE FUNCTION lookaside.${
          functions.find(({ name: of }) => /_truncate\(\)$/.test(of))?.name.split(".")[1]
        }`),
      Error,
    );
    assertMatch(error.message, /permission denied for function/);
    await fixture.admin.unsafe(`REVOKE USAGE ON SCHEMA lookaside FROM ${name}`);
  });

  it("has no cast, operator or function of its types run as the owner, where its table is watched", async () => {
    await writer.unsafe(
      `CREATE TYPE mine.mood AS ENUM ('a', 'b'); CREATE TYPE mine.pair AS (a mine.mood, b int);
      CREATE FUNCTION mine.t(mine.mood) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('attack.ran_as', current_user, FALSE); RETURN ''; END $$;
      CREATE CAST (mine.mood AS text) WITH FUNCTION mine.t(mine.mood) AS IMPLICIT;
      CREATE FUNCTION mine.same(mine.mood, mine.mood) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM set_config('attack.ran_as', current_user, FALSE); RETURN FALSE; END $$;
      CREATE OPERATOR mine.= (LEFTARG = mine.mood, RIGHTARG = mine.mood, FUNCTION = mine.same);
      DROP TABLE IF EXISTS mine.t; CREATE TABLE mine.t (id mine.mood PRIMARY KEY, m mine.mood, p mine.pair)`,
    );
    await fixture.admin.unsafe(
      "SELECT lookaside.watch('mine.t', columns => '{m}', matter => '{p}')",
    );
    const found = await attack(
      `INSERT INTO mine.t VALUES ('a', 'b', ('a', 1)); UPDATE mine.t SET p = ('b', 1);
      UPDATE mine.t SET m = 'a'; DELETE FROM mine.t`,
    );
    assertEquals(found.ranAs, "");
    assertEquals(found.noted.length, 4);
    // Also not after the type of a column was changed behind the watch.
    await writer.unsafe("ALTER TABLE mine.t ALTER p TYPE mine.mood USING 'a'");
    await writer.unsafe("ALTER TABLE mine.t DROP COLUMN m; ALTER TABLE mine.t RENAME p TO m");
    assertEquals((await attack("INSERT INTO mine.t VALUES ('a', 'b')")).ranAs, "");
    await fixture.admin.unsafe("SELECT lookaside.unwatch('mine.t')");
  });

  it("has no view run as the owner that it has made in the place of an extension's table", async () => {
    const { pathname } = new URL(fixture.urls.admin);
    await fixture.admin.unsafe(`GRANT CREATE ON DATABASE ${pathname.slice(1)} TO ${name}`);
    await writer.unsafe(
      `CREATE SCHEMA _timescaledb_catalog; CREATE TABLE mine.ran (as_role TEXT);
      GRANT INSERT ON mine.ran TO PUBLIC; GRANT USAGE ON SCHEMA mine, _timescaledb_catalog TO PUBLIC;
      CREATE FUNCTION mine.rise() RETURNS NAME LANGUAGE sql AS
        'INSERT INTO mine.ran VALUES (current_user) RETURNING as_role::NAME';
      CREATE VIEW _timescaledb_catalog.hypertable AS SELECT mine.rise() AS schema_name, 'x'::NAME AS table_name;
      GRANT SELECT ON _timescaledb_catalog.hypertable TO PUBLIC`,
    );
    await fixture.service.query("SELECT label FROM lookaside.check()");
    assertEquals([...await writer`SELECT as_role FROM mine.ran`], []);
    await writer.unsafe("DROP SCHEMA _timescaledb_catalog CASCADE; DROP TABLE mine.ran");
    await fixture.admin.unsafe(`REVOKE CREATE ON DATABASE ${pathname.slice(1)} FROM ${name}`);
  });

  it("has no function or operator taken for Postgres's own, where it may put some into the path of others", async () => {
    await using database = await createTestDatabase(server());
    const sql = fixture.connect(database.url);
    await sql.unsafe(`CREATE TABLE orders (id INT PRIMARY KEY, n INT); ${trapsSql}`);
    const changes = fromPostgresJs(sql);
    await installChanges(changes, { service: fixture.serviceRole });
    const errors: unknown[] = [];
    const onError = (error: unknown) => void errors.push(error);
    const cache = new Cache({ changes: postgresChanges(changes, { onError, pollMs: 50 }) });
    await cache.changes.source?.();
    await table(cache, "orders", { columns: ["n"] }).row(1, () => Promise.resolve(1));
    (await cache.changes.beginWrite())[Symbol.dispose]();
    await sql`INSERT INTO orders VALUES (1, 2)`;
    await cache.changes.caughtUp();
    await cache.changes.stats();
    await relayAndFollow(changes, onError);
    const connect = () => Promise.resolve({ ...changes, [Symbol.asyncDispose]: async () => {} });
    const around = { url: database.url, connect, print: () => undefined };
    await run(["watch", "orders", "n"], around);
    assertEquals(await run(["status"], around), 0);
    await cache.close();
    assertEquals(errors, []);
    await sql.end();
  });

  it("has a default of its own making put right by the next version", async () => {
    await using database = await createTestDatabase(server());
    const sql = fixture.connect(database.url, { max: 1 });
    await installChanges(fromPostgresJs(sql));
    await sql.unsafe(
      `CREATE TABLE orders (id INT PRIMARY KEY); SELECT lookaside.watch('orders'); ${trapsSql};
      ALTER TABLE lookaside.outbox ALTER turn SET DEFAULT (1::INT8 % 3)::INT, ALTER id SET DEFAULT
        nextval('lookaside.outbox_id'::TEXT)::INT8; UPDATE lookaside.installed SET version = 12`,
    );
    await assertRejects(() => sql`INSERT INTO orders VALUES (1)`, Error, "it was used");
    await installChanges(fromPostgresJs(sql));
    await sql`INSERT INTO orders VALUES (1)`;
    await sql.end();
  });

  it("may not stop a relay by a mark that is no text", async () => {
    await using database = await createTestDatabase(server(), "SQL_ASCII");
    const sql = fixture.connect(database.url, { max: 2 });
    const changes = fromPostgresJs(sql);
    await installChanges(changes);
    await sql.unsafe("CREATE TABLE orders (id INT PRIMARY KEY); SELECT lookaside.watch('orders')");
    const applied: string[] = [];
    await using feed = new ChangeFeed(changes, {
      cacheName: "c",
      apply: (found) =>
        Promise.resolve(void applied.push(...found.flatMap(({ keys = [] }) => keys))),
      reset: () => Promise.resolve(),
    });
    await feed.catchUp({ replay: false });
    await sql.unsafe("SET LOCAL lookaside.writer = E'\\xff'; INSERT INTO orders VALUES (1)");
    await feed.catchUp({ replay: false });
    assertEquals(applied, ["1"]);
    await sql.end();
  });

  it("may not watch, unwatch, read or write anything of the schema", async () => {
    for (
      const statement of [
        "SELECT lookaside.watch('users')",
        "SELECT lookaside.unwatch('users')",
        "SELECT * FROM lookaside.outbox",
        "INSERT INTO lookaside.outbox (label) VALUES ('users')",
        "SELECT setval('lookaside.doorbell', 9999999999999)",
        "SELECT lookaside.clean()",
      ]
    ) {
      const error = await assertRejects(() => writer.unsafe(statement), Error);
      assertMatch(error.message, /permission denied for schema lookaside/);
    }
  });

  it("may as the service relay, and neither watch nor forge nor remove a change", async () => {
    const service = fixture.connect(fixture.urls.service, { max: 1 });
    for (
      const statement of [
        "SELECT lookaside.watch('users')",
        "SELECT lookaside.forget('users')",
        "SELECT lookaside.admit('postgres')",
        "INSERT INTO lookaside.outbox (label) VALUES ('users')",
        "DELETE FROM lookaside.outbox",
        "TRUNCATE lookaside.outbox",
        "UPDATE lookaside.watched SET label = ''",
        "CREATE TABLE lookaside.t (id int)",
      ]
    ) {
      const error = await assertRejects(() => service.unsafe(statement), Error);
      assertMatch(error.message, /permission denied/, statement);
    }
    assertEquals([...await service`SELECT label FROM lookaside.check()`], []);
  });

  it("may not watch a table of another role, nor install into a schema of another's", async () => {
    const role = await fixture.makeRole();
    const owner = new URL(fixture.urls.owner).username;
    await fixture.admin.unsafe(`ALTER SCHEMA lookaside OWNER TO ${owner}`);
    await fixture.admin.unsafe(
      `CREATE TABLE theirs (id INT PRIMARY KEY); ALTER TABLE theirs OWNER TO ${role.name};
      GRANT ALL ON theirs TO ${owner}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lookaside TO ${owner}`,
    );
    const error = await assertRejects(
      () => fixture.owner.unsafe("SELECT lookaside.watch('theirs')"),
      Error,
    );
    assertMatch(error.message, /belongs to another role/);
    // Nor any with triggers that would run as a role which may not write to the outbox, so that all writes failed.
    await fixture.admin.unsafe("CREATE TABLE later (id INT PRIMARY KEY)");
    const apart = () => fixture.admin.unsafe("SELECT lookaside.watch('later')");
    assertMatch((await assertRejects(apart, Error)).message, /outbox belongs to another role than/);
    assertEquals((await fixture.service.query("SELECT label FROM lookaside.check()")).length, 1);
    await fixture.admin.unsafe("INSERT INTO later VALUES (1); UPDATE users SET name = 'z'");
    await fixture.admin.unsafe(
      "DROP TABLE theirs, later; DROP SCHEMA lookaside CASCADE; DROP TABLE users",
    );
    await fixture.admin.unsafe(`CREATE SCHEMA lookaside AUTHORIZATION ${role.name}`);
    const refusal = await assertRejects(() => installChanges(fromPostgresJs(fixture.owner)), Error);
    assertMatch(refusal.message, /it belongs to/);
    // Nor may a superuser, who would own functions that call those of the schema's owner.
    const superusers = await assertRejects(
      () => installChanges(fromPostgresJs(fixture.admin)),
      Error,
    );
    assertMatch(superusers.message, /it belongs to/);
    await fixture.admin.unsafe("DROP SCHEMA lookaside CASCADE");
  });
}

/** Runs what the statements of two relays are for, and those of a follower. */
async function relayAndFollow(
  database: ChangesDatabase,
  onError: (error: unknown) => void,
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const [relay, other] = [1, 2].map(() =>
    stack.use(
      new ChangeFeed(database, {
        cacheName: "other",
        pollMs: 20,
        onError,
        apply: () => Promise.resolve(),
        reset: () => Promise.resolve(),
      }),
    )
  ) as [ChangeFeed, ChangeFeed];
  await relay.catchUp({ replay: false });
  relay.start();
  const told: string[] = [];
  const listener = {
    changed: ({ keys }: { readonly keys: readonly string[] }) => void told.push(...keys),
    flushed: () => undefined,
    alive: () => undefined,
  };
  const options = { cacheName: "other", clock: systemRuntime.clock, isAway: () => true, onError };
  stack.use(new Follower(database, listener, { ...options, everyMs: 20, sinceMs: 0 }));
  using write = await other.beginWrite();
  await database.query(
    "INSERT INTO orders SELECT 9, 9 WHERE set_config('lookaside.writer', $1::TEXT, TRUE) <> ''",
    [write.mark],
  );
  write.invalidated({ keys: ["orders:9"], tags: [] });
  write[Symbol.dispose]();
  await eventually(async () => {
    assertEquals((await database.query("SELECT FROM lookaside.done WHERE names <> ''")).length, 1);
    assert(told.includes("orders:9"));
  });
  await database.query("UPDATE lookaside.caches SET reset_at = '2000-01-01'");
  await relay.catchUp({ replay: true });
  assert((await relay.stats()).replayed > 0);
}
