import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { changesSql, changesStatements, changesVersion } from "../../changes/schema.ts";
import { checkWatched, installChanges } from "../../changes/install.ts";
import { fromPostgresJs } from "../../changes/adapters/postgres_js.ts";
import { plain } from "../../changes/names.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createTestDatabase } from "../support/test_database.ts";
import { later } from "../support/later.ts";
import { recordingSuite } from "./recording_suite.ts";
import {
  fixture,
  lockAwaited,
  notedOf,
  one,
  onWatchStage,
  run,
  session,
  sql,
  watchBesideReader,
  whole,
} from "./watch_stage.ts";

/** The promises of `lookaside.watch()`, on a server of this version that runs once a test does. */
export function watchSuite(server: () => string, version: number = Infinity): void {
  // Not skipped where the version has no such statement: a suite that skips something has not passed.
  const itDetaches = version >= 14 ? it : () => undefined;
  onWatchStage(server);
  recordingSuite(version);

  itDetaches("counts for the table, at the next check, a partition being detached", async () => {
    await run(
      `DROP TABLE orders; CREATE TABLE orders (id INT PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (9); INSERT INTO orders VALUES (1);
      SELECT lookaside.watch('orders')`,
    );
    const reader = session();
    await reader.unsafe("BEGIN; SELECT count(*) FROM orders");
    await fixture.noted();
    const detaching = later(
      session().unsafe("ALTER TABLE orders DETACH PARTITION orders_1 CONCURRENTLY").execute(),
    );
    await eventually(async () => assertEquals((await sql`SELECT FROM orders`).length, 0));
    assertEquals(await checkWatched(fixture.service), []);
    assertEquals(await fixture.noted(), [whole("orders")]);
    await reader.unsafe("COMMIT");
    await detaching;
    await run("DROP TABLE orders_1");
  });

  it("is checked without waiting for a table that is being rewritten", async () => {
    await run(
      `ALTER TABLE orders ADD twice INT GENERATED ALWAYS AS (customer_id * 2) STORED;
      SELECT lookaside.watch('orders')`,
    );
    const holder = session();
    await holder.unsafe("BEGIN; LOCK TABLE orders");
    await fixture.service.transaction(async (query) => {
      await query("SET LOCAL statement_timeout = '5s'");
      assertEquals(await query("SELECT label FROM lookaside.check()"), []);
    });
    await holder.unsafe("COMMIT");
  });

  it("lets a write succeed and counts it for the table while a column has another name", async () => {
    await run("SELECT lookaside.watch('orders', columns => '{customer_id}')");
    const again = async (statement: string): Promise<void> => {
      await run(statement);
      for (
        const write of ["UPDATE orders SET note = 'r'", "INSERT INTO orders (note) VALUES ('n')"]
      ) {
        assertEquals(await notedOf(write), [whole("orders")]);
      }
    };
    await notedOf("UPDATE orders SET note = 'r' WHERE id = 1");
    await again("ALTER TABLE orders RENAME customer_id TO client_id");
    const [said] = await checkWatched(fixture.service);
    assertMatch(said?.problem ?? "", /Cannot watch public.orders: it has no column customer_id/);
    assertMatch(
      said?.remedy ?? "",
      /^SELECT lookaside\.watch\('public\.orders', columns => '\{customer_id\}'/,
    );
    await again("ALTER TABLE orders RENAME id TO number");
    await run("ALTER TABLE orders DROP COLUMN client_id");
    assertEquals(await notedOf("UPDATE orders SET note = 'r'"), [whole("orders")]);
  });

  it("is to be watched by its new primary key, where it has another one", async () => {
    await run("SELECT lookaside.watch('orders', columns => '{customer_id}')");
    await run("ALTER TABLE orders DROP id, ADD number SERIAL PRIMARY KEY");
    const [said] = await checkWatched(fixture.service);
    assertMatch(said?.problem ?? "", /no unique index has just the columns {id}/);
    await run(said?.remedy ?? "");
    assertEquals(await checkWatched(fixture.service), []);
    const changed = await notedOf("UPDATE orders SET note = 'n' WHERE number = 1");
    assertEquals(changed.map(({ keys }) => keys), [["1"]]);
  });

  it("counts a column of what matters for a change while it has another name", async () => {
    await run("SELECT lookaside.watch('orders', matter => '{note}')");
    assertEquals(await notedOf("UPDATE orders SET seen = now() WHERE id = 1"), []);
    await run("ALTER TABLE orders RENAME note TO remark");
    assertEquals((await notedOf("UPDATE orders SET remark = 'r' WHERE id = 1"))[0]?.keys, ["1"]);
  });

  it("follows the name when tables are swapped, and types that change", async () => {
    await run(
      "SELECT lookaside.watch('orders'); CREATE TABLE orders_new (LIKE orders INCLUDING ALL)",
    );
    await run("ALTER TABLE orders RENAME TO orders_old; ALTER TABLE orders_new RENAME TO orders");
    await fixture.noted();
    assertEquals(await checkWatched(fixture.service), []);
    assertEquals(await fixture.noted(), [whole("orders")]);
    assertEquals(await notedOf("INSERT INTO orders (id) VALUES (5)"), one("orders", ["5"]));
    assertEquals(await notedOf("DELETE FROM orders_old"), []);
    await run(
      "DROP TABLE orders_old CASCADE; ALTER TABLE orders ALTER id TYPE TEXT USING id || ' x'",
    );
    // Nobody has looked yet, and the names of before would be wrong.
    assertEquals(await notedOf("UPDATE orders SET note = 'n'"), [whole("orders")]);
    assertEquals(await checkWatched(fixture.service), []);
    assertEquals(await fixture.noted(), [whole("orders")]);
    assertEquals(await notedOf("DELETE FROM orders"), one("orders", [plain("5 x")]));
  });

  describe("counts for the table, at the next check, rows that no trigger saw change, by", () => {
    const statements = [
      "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
      "ALTER TYPE other RENAME VALUE 'ok' TO 'fine'",
      "ALTER TYPE pair DROP ATTRIBUTE b",
      "ALTER TYPE pair RENAME ATTRIBUTE b TO c",
      "ALTER TYPE pair ADD ATTRIBUTE c INT",
      "ALTER TABLE typed ALTER price TYPE NUMERIC(10, 1)",
      "ALTER TABLE typed ALTER v TYPE TEXT USING upper(v)",
    ];
    for (const statement of statements) {
      it(statement, async () => {
        await run(
          `CREATE TYPE mood AS ENUM ('ok', 'bad');
          CREATE TYPE other AS ENUM ('ok'); CREATE TYPE pair AS (a other, b INT); CREATE DOMAIN pairs AS pair[];
          CREATE TABLE typed (id INT PRIMARY KEY, m mood, price NUMERIC(10, 2), v TEXT, p pairs);
          SELECT lookaside.watch('typed')`,
        );
        await fixture.noted();
        await run(statement);
        assertEquals(await checkWatched(fixture.service), []);
        assertEquals(await fixture.noted(), [whole("typed")]);
        assertEquals(await checkWatched(fixture.service), []);
        assertEquals(await fixture.noted(), []);
        await run("DROP TABLE typed; DROP DOMAIN pairs; DROP TYPE mood, pair, other");
      });
    }
  });

  it("counts a write for the table while a column has another type, whose text may differ", async () => {
    await run("SELECT lookaside.watch('orders', columns => '{note}')");
    await run("UPDATE orders SET note = 't'");
    for (const type of ["BOOLEAN USING note::BOOLEAN", "CHAR(9) USING note::TEXT"]) {
      await run(`ALTER TABLE orders ALTER note TYPE ${type}`);
      assertEquals(await notedOf("UPDATE orders SET note = NULL"), [whole("orders")]);
    }
    assertEquals(await checkWatched(fixture.service), []);
    assertEquals(
      await notedOf("UPDATE orders SET note = 't' WHERE id = 1"),
      one("orders", ["1"], ["note", "note=t"]),
    );
  });

  it("refuses a table that has a part in common with another one, also one that it gets later", async () => {
    await run(
      `CREATE TABLE pa (id INT PRIMARY KEY); CREATE TABLE pb (id INT PRIMARY KEY);
      CREATE TABLE mixin (x INT); CREATE TABLE chi () INHERITS (pa, mixin);
      SELECT lookaside.watch('pa')`,
    );
    assertEquals(await notedOf("INSERT INTO chi VALUES (1)"), one("pa", ["1"]));
    await run("ALTER TABLE chi INHERIT pb");
    const error = await assertRejects(() => run("SELECT lookaside.watch('pb')"), Error);
    assertMatch(error.message, /public.chi is also a part of public.pa, which is watched/);
    assertEquals(await checkWatched(fixture.service), []);
    await run("ALTER TABLE chi NO INHERIT pb; SELECT lookaside.watch('pb')");
    await run("ALTER TABLE chi INHERIT pb");
    assertEquals((await checkWatched(fixture.service)).map(({ label }) => label), ["pa", "pb"]);
    await run("DROP TABLE pa, pb, mixin CASCADE");
  });

  it("drops the triggers of a table with a foreign child, for which Postgres would refuse writes", async () => {
    await run("SELECT lookaside.watch('orders')");
    await fixture.admin.unsafe(
      `CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far;
      CREATE FOREIGN TABLE far () INHERITS (orders) SERVER far`,
    );
    await fixture.admin.unsafe(
      `ALTER FOREIGN TABLE far OWNER TO ${new URL(fixture.urls.owner).username}`,
    );
    const triggers = async () =>
      (await sql`SELECT 1 FROM pg_trigger WHERE tgrelid = 'orders'::REGCLASS`).length;
    for (const _ of [1, 2]) {
      const [said] = await checkWatched(fixture.service);
      assertMatch(said?.problem ?? "", /public.far is a foreign table/);
      assertEquals(await triggers(), 0);
    }
    assertEquals((await fixture.noted()).at(-1), whole("orders"));
    await fixture.admin.unsafe("DROP FOREIGN DATA WRAPPER far CASCADE");
    assertEquals(await checkWatched(fixture.service), []);
    assertEquals(await triggers(), 4);
  });

  it("has triggers put back that were dropped or switched off, and says what the role may not", async () => {
    await run("SELECT lookaside.watch('orders')");
    await run(
      "DROP TRIGGER lookaside_update ON orders; ALTER TABLE orders DISABLE TRIGGER lookaside_delete",
    );
    assertEquals(await checkWatched(fixture.service), []);
    assertEquals(await notedOf("UPDATE orders SET note = 'x' WHERE id = 1"), one("orders", ["1"]));
    assertEquals(await notedOf("DELETE FROM orders WHERE id = 1"), one("orders", ["1"]));
    const other = await fixture.makeRole();
    await fixture.admin.unsafe(`ALTER TABLE orders OWNER TO ${other.name}`);
    const [said] = await checkWatched(fixture.service);
    assertMatch(said?.problem ?? "", /belongs to another role/);
    await fixture.admin.unsafe("DROP TABLE orders");
    assertMatch(
      (await checkWatched(fixture.service))[0]?.problem ?? "",
      /There is no table public.orders/,
    );
    await fixture.admin.unsafe(`DROP OWNED BY ${other.name}`);
  });

  it("is watched and checked although somebody has a schema by the name of an extension's", async () => {
    await fixture.admin.unsafe("CREATE SCHEMA _timescaledb_catalog");
    await run("SELECT lookaside.watch('orders')");
    assertEquals(await checkWatched(fixture.service), []);
    await fixture.admin.unsafe("DROP SCHEMA _timescaledb_catalog");
  });

  it("is checked although another one is in a schema that the owner may not use any more", async () => {
    const other = await fixture.makeRole();
    await run(
      `SELECT lookaside.watch('orders'); CREATE SCHEMA hidden; CREATE TABLE hidden.t (id INT PRIMARY KEY);
      SELECT lookaside.watch('hidden.t')`,
    );
    await fixture.admin.unsafe(
      `ALTER SCHEMA hidden OWNER TO ${other.name}; ALTER TABLE hidden.t OWNER TO ${other.name}`,
    );
    const isRepaired = async (problem: RegExp): Promise<void> => {
      await run("ALTER TABLE orders DISABLE TRIGGER lookaside_delete");
      const said = await checkWatched(fixture.service);
      assertEquals(said.map(({ label }) => label), ["hidden.t"]);
      assertMatch(said[0]?.problem ?? "", problem);
      await notedOf("INSERT INTO orders (id) VALUES (99)");
      assertEquals(await notedOf("DELETE FROM orders WHERE id = 99"), one("orders", ["99"]));
    };
    await isRepaired(/hidden.t belongs to another role/);
    await fixture.admin.unsafe(
      `CREATE FOREIGN DATA WRAPPER far; CREATE SERVER far FOREIGN DATA WRAPPER far;
      CREATE FOREIGN TABLE far () INHERITS (hidden.t) SERVER far`,
    );
    await isRepaired(/far is a foreign table|hidden.t belongs to another role/);
    await fixture.admin.unsafe(
      `DROP FOREIGN DATA WRAPPER far CASCADE; DROP SCHEMA hidden CASCADE; SELECT lookaside.forget('hidden.t')`,
    );
  });

  describe("refuses", () => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ["SELECT lookaside.watch('nope')", /relation "nope" does not exist/],
      ["SELECT lookaside.watch('orders', columns => '{nope}')", /it has no column nope/],
      ["SELECT lookaside.watch('orders', matter => '{nope}')", /it has no column nope/],
      ["SELECT lookaside.watch('orders', columns => '{ctid}')", /it has no column ctid/],
      ["SELECT lookaside.watch('orders', key => '{note}')", /no unique index has just the columns/],
      ["CREATE TABLE o2 (id INT); SELECT lookaside.watch('o2')", /it has no primary key/],
      [
        "CREATE TABLE o2 (id INT UNIQUE); SELECT lookaside.watch('o2', key => '{id}')",
        /no unique index/,
      ],
      [
        "CREATE TABLE o2 (id INT PRIMARY KEY, j JSONB); SELECT lookaside.watch('o2', columns => '{j}')",
        /type jsonb, which makes no name/,
      ],
      ["CREATE VIEW o2 AS SELECT 1; SELECT lookaside.watch('o2')", /it is no table/],
      ["CREATE UNLOGGED TABLE o2 (id INT PRIMARY KEY); SELECT lookaside.watch('o2')", /unlogged/],
      [
        `CREATE TABLE o2 (id INT PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE UNLOGGED TABLE o3 PARTITION OF o2 DEFAULT; SELECT lookaside.watch('o2')`,
        /public.o3 is unlogged/,
      ],
      ["CREATE TABLE o2 () INHERITS (orders); SELECT lookaside.watch('o2')", /it is a part of/],
      ["SELECT lookaside.watch('pg_class')", /it belongs to the system/],
    ];
    for (const [statement, message] of cases) {
      it(statement, async () => {
        const error = await assertRejects(() => sql.begin((on) => on.unsafe(statement)), Error);
        assertMatch(error.message, message);
      });
    }
  });

  it("refuses a hypertable of TimescaleDB before 2.18", async () => {
    const as = (version: string) =>
      fixture.admin.begin(async (on) => {
        // The extension is not at hand, so another one plays it.
        await on.unsafe(
          `SET LOCAL allow_system_table_mods = on; CREATE SCHEMA _timescaledb_catalog;
          CREATE TABLE _timescaledb_catalog.hypertable (schema_name NAME, table_name NAME);
          INSERT INTO _timescaledb_catalog.hypertable VALUES ('public', 'orders');
          ALTER EXTENSION plpgsql ADD TABLE _timescaledb_catalog.hypertable;
          UPDATE pg_extension SET extname = 'timescaledb', extversion = '${version}' WHERE extname = 'plpgsql'`,
        );
        await on.unsafe("SELECT lookaside.watch('orders')");
        throw new Error("rolled back");
      });
    for (const version of ["2.17.2", "2.9-dev"]) {
      assertMatch((await assertRejects(() => as(version), Error)).message, /it is a hypertable/);
    }
    assertMatch((await assertRejects(() => as("2.18.0"), Error)).message, /rolled back/);
  });

  it("takes another unique key of columns that are not null", async () => {
    await run(
      "ALTER TABLE orders ADD COLUMN code TEXT NOT NULL DEFAULT gen_random_uuid()::TEXT, ADD UNIQUE (customer_id, code)",
    );
    await run(
      "DELETE FROM orders WHERE id > 1; UPDATE orders SET code = 'c'; ALTER TABLE orders ALTER customer_id SET NOT NULL",
    );
    await run("SELECT lookaside.watch('orders', key => '{code,customer_id}')");
    assertEquals(await notedOf("UPDATE orders SET note = 'x'"), one("orders", ["c,1"]));
  });

  it("locks and changes nothing the second time", async () => {
    const watch = "SELECT lookaside.watch('orders', columns => '{customer_id}') AS changed";
    assertEquals((await sql.unsafe<{ changed: boolean }[]>(watch))[0]?.changed, true);
    await fixture.noted();
    await sql.begin(async (on) => {
      await on.unsafe("SET LOCAL lock_timeout = '50ms'");
      const holder = session();
      try {
        await holder.unsafe("BEGIN; LOCK TABLE orders IN ROW EXCLUSIVE MODE");
        assertEquals((await on.unsafe<{ changed: boolean }[]>(watch))[0]?.changed, false);
      } finally {
        await holder.unsafe("COMMIT");
      }
    });
  });

  it("lets writers pass while it waits for one of them, and is done behind it", async () => {
    const holder = session();
    await holder.unsafe("BEGIN; UPDATE orders SET note = 'held' WHERE id = 1");
    const watching = later(sql.unsafe("SELECT lookaside.watch('orders')").execute());
    await lockAwaited("orders");
    const startedAtMs = performance.now();
    await run("UPDATE orders SET note = 'passes' WHERE id = 2");
    assert(performance.now() - startedAtMs < 2_000);
    await holder.unsafe("COMMIT");
    await watching;
    assertEquals(await notedOf("DELETE FROM orders WHERE id = 2"), one("orders", ["2"]));
  });

  describe("waits for writers that have recorded less than is asked for from now on", () => {
    const watches = ["'{customer_id,note}'", "'{}', matter => '{note,seen}'", "'{}', key => '{n}'"];
    for (const more of watches) {
      it(more, async () => {
        await run(
          `ALTER TABLE orders ADD n SERIAL UNIQUE;
          SELECT lookaside.watch('orders', '{customer_id}', matter => '{note}')`,
        );
        const writer = session();
        await writer.unsafe("BEGIN; UPDATE orders SET note = 'n' WHERE id = 1");
        const watching = later(
          sql.unsafe(`SELECT lookaside.watch('orders', ${more})`).execute(),
        );
        await lockAwaited("orders");
        await writer.unsafe("COMMIT");
        await watching;
        // Less needs no lock.
        await writer.unsafe("BEGIN; UPDATE orders SET note = 'n' WHERE id = 1");
        const [{ key = "" } = {}] = await sql<{ key: string }[]>`
          SELECT key::TEXT FROM lookaside.watched`;
        await run(`SELECT lookaside.watch('orders', '{}', key => '${key}', matter => '{}')`);
        await writer.unsafe("COMMIT");
      });
    }
  });

  for (const read of ["orders", "orders_old"]) {
    it(`lets writers pass while a reader of ${read} keeps it from dropping triggers of another name`, async () => {
      await run(
        `CREATE TABLE orders_new (LIKE orders INCLUDING ALL);
        SELECT lookaside.watch('orders'), lookaside.watch('orders_new')`,
      );
      await run("ALTER TABLE orders RENAME TO orders_old; ALTER TABLE orders_new RENAME TO orders");
      await watchBesideReader(read);
      await notedOf("INSERT INTO orders (id) VALUES (1)");
      assertEquals(await notedOf("DELETE FROM orders"), one("orders", ["1"]));
      await run("DROP TABLE orders_old CASCADE");
    });
  }

  it("lets writers pass while a reader keeps it from dropping a stranger's trigger of its name", async () => {
    const [made] = await sql<{ name: string }[]>`
      SELECT lookaside.function_name('orders', 'insert') AS name`;
    await run(
      `CREATE FUNCTION ${made?.name}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER lookaside_insert AFTER INSERT ON orders FOR EACH STATEMENT EXECUTE FUNCTION ${made?.name}()`,
    );
    await watchBesideReader("orders");
    assertEquals((await notedOf("INSERT INTO orders (id) VALUES (99)")).length, 1);
    await run(`DROP FUNCTION ${made?.name}`);
  });

  it("is checked without waiting for a transaction that watches, which may wait for the check", async () => {
    await run("CREATE TABLE a (id INT PRIMARY KEY); SELECT lookaside.watch('a')");
    await run("SELECT lookaside.watch('orders')");
    const migration = session();
    await migration.unsafe("BEGIN; SELECT lookaside.watch('orders')");
    await run("ALTER TABLE a DISABLE TRIGGER lookaside_insert");
    const checking = later(checkWatched(fixture.service));
    await migration.unsafe("SELECT pg_sleep(0.2); SELECT lookaside.watch('a'); COMMIT");
    assertEquals(await checking, []);
    assertEquals(await notedOf("INSERT INTO a VALUES (1)"), one("a", ["1"]));
    await run("DROP TABLE a");
  });

  it("is repaired after all else is checked, since its writers wait until the check is done", async () => {
    await run(
      `CREATE TABLE a (id INT PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE b (id INT PRIMARY KEY, n INT);
      SELECT lookaside.watch('a'), lookaside.watch('b', '{n}'); ALTER TABLE b DROP COLUMN n;
      CREATE TABLE a_1 PARTITION OF a DEFAULT`,
    );
    const holder = session();
    await holder.unsafe("BEGIN; LOCK TABLE a_1 IN ROW EXCLUSIVE MODE");
    const said = await checkWatched(fixture.service);
    assertEquals(said.map(({ label }) => label), ["b", "a"]);
    await holder.unsafe("COMMIT");
    await run("SELECT lookaside.forget('a'), lookaside.forget('b'); DROP TABLE a, b");
  });

  it("is checked without planning again for each table how to search the catalogs", async () => {
    await run("CREATE TABLE a (id INT PRIMARY KEY); SELECT lookaside.watch('a')");
    await run("SELECT lookaside.watch('orders')");
    const planned = new Set<string>();
    const checking = fixture.connect(fixture.urls.admin, {
      max: 1,
      onnotice: ({ where = "" }) => void planned.add(where.split("\n")[0] ?? ""),
    });
    await checking.unsafe("SELECT lookaside.check()");
    await checking.unsafe(
      "SET client_min_messages = log; SET log_planner_stats = on; SELECT lookaside.check()",
    );
    const contexts = [...planned].join();
    assertMatch(contexts, /SQL function/); // the small ones, which are planned fast
    for (const name of ["family", "hung", "shape", "stored", "unattached"]) {
      assert(!contexts.includes(`SQL function "${name}"`), name);
    }
    await run("SELECT lookaside.forget('a'); DROP TABLE a");
  });

  it("is checked without reading of all others", async () => {
    await run(
      "CREATE TABLE a (id INT PRIMARY KEY); SELECT lookaside.watch('a'), lookaside.watch('orders')",
    );
    // A connection of its own: the figures include what earlier transactions of it have not reported yet.
    const checking = fixture.connect(fixture.urls.admin, { max: 1 });
    const scans = await checking.begin(async (on) => {
      await on.unsafe("SET LOCAL enable_seqscan = off; SELECT lookaside.check()");
      return await on<{ relname: string }[]>`
        SELECT relname FROM pg_stat_xact_all_tables WHERE seq_scan > 1 AND relname IN ('pg_trigger', 'watched')`;
    });
    assertEquals([...scans], []);
    await run("SELECT lookaside.forget('a'); DROP TABLE a");
  });

  it("is checked by what is watched then, not when the check began", async () => {
    await run(
      `CREATE TABLE a (id INT PRIMARY KEY); CREATE TABLE b (id INT PRIMARY KEY);
      SELECT lookaside.watch('a'), lookaside.watch('b'), lookaside.watch('orders')`,
    );
    await run("ALTER TABLE a DISABLE TRIGGER lookaside_insert");
    const holder = session();
    await holder.unsafe("BEGIN; LOCK TABLE a IN ROW EXCLUSIVE MODE");
    const checking = later(checkWatched(fixture.service));
    await lockAwaited("a");
    await run("SELECT lookaside.unwatch('b'); SELECT lookaside.watch('orders', '{note}')");
    await holder.unsafe("COMMIT");
    await checking;
    const watched = await sql`SELECT label, columns::TEXT FROM lookaside.watched ORDER BY label`;
    assertEquals(watched.map(({ label, columns }) => [label, columns]), [
      ["a", "{}"],
      ["orders", "{note}"],
    ]);
    await run("SELECT lookaside.unwatch('a'); DROP TABLE a, b");
  });

  it("is not kept from a table by plpgsql.extra_errors, nor by the name of its owner", async () => {
    await run("DROP SCHEMA lookaside CASCADE");
    const owner = new URL(fixture.urls.owner).username;
    await fixture.admin.unsafe(`ALTER ROLE ${owner} RENAME TO "${owner}@x.iam-A"`);
    try {
      const strict = fixture.connect(fixture.urls.admin, { max: 1 });
      await strict.unsafe(`SET plpgsql.extra_errors = 'all'; SET ROLE "${owner}@x.iam-A"`);
      await strict.unsafe(changesSql);
      await strict.unsafe("SELECT lookaside.watch('orders')");
    } finally {
      await fixture.admin.unsafe(`ALTER ROLE "${owner}@x.iam-A" RENAME TO ${owner}`);
    }
    await run(`SELECT lookaside.admit('${fixture.serviceRole}')`);
    assertEquals(await notedOf("DELETE FROM orders WHERE id = 1"), one("orders", ["1"]));
  });

  it("costs a wide row what it costs a narrow one, and fails for none", async () => {
    await run(
      "SELECT lookaside.watch('orders', columns => '{customer_id}', matter => '{customer_id}')",
    );
    await run("UPDATE orders SET note = repeat('lorem ipsum ', 870000)");
    const [before] = await sql<
      { at: string }[]
    >`SELECT pg_stat_get_db_temp_bytes(oid)::TEXT AS at FROM pg_database WHERE datname = current_database()`;
    assertEquals(await notedOf("UPDATE orders SET seen = now() WHERE id = 1"), []);
    assert(before !== undefined);
    await run("SELECT lookaside.watch('orders', columns => '{note}')");
    assertEquals(
      (await notedOf("UPDATE orders SET seen = now() WHERE id = 1"))[0]?.values?.length,
      1,
    );
    // Too long to be made a name.
    await run(
      "UPDATE orders SET note = (SELECT string_agg(md5(g::TEXT), '') FROM generate_series(1, 100000) g) WHERE id = 1",
    );
    assertEquals(await notedOf("UPDATE orders SET seen = now() WHERE id = 1"), [whole("orders")]);
  });

  it("unwatch() leaves nothing behind", async () => {
    await run("SELECT lookaside.watch('orders')");
    const [gone] = await sql<{ was: boolean }[]>`SELECT lookaside.unwatch('orders') AS was`;
    assertEquals(gone?.was, true);
    assertEquals(await notedOf("DELETE FROM orders WHERE id = 1"), []);
    assertEquals([...await sql`SELECT 1 FROM pg_trigger WHERE tgname LIKE 'lookaside%'`], []);
    assertEquals([
      ...await sql`SELECT 1 FROM pg_proc WHERE pronamespace = 'lookaside'::REGNAMESPACE AND prorettype = 'trigger'::REGTYPE`,
    ], []);
    const [again] = await sql<{ was: boolean }[]>`SELECT lookaside.unwatch('orders') AS was`;
    assertEquals(again?.was, false);
  });

  it("unwatch() knows a table by its name, where a dump has brought along the OID of another", async () => {
    await run("SELECT lookaside.watch('orders'); UPDATE lookaside.watched SET relation = 1");
    const [gone] = await sql<{ was: boolean }[]>`SELECT lookaside.unwatch('orders') AS was`;
    assertEquals(gone?.was, true);
    assertEquals([...await sql`SELECT 1 FROM pg_trigger WHERE tgrelid = 'orders'::REGCLASS`], []);
  });

  it("DROP SCHEMA lookaside CASCADE leaves nothing behind, and breaks no writer", async () => {
    await run("SELECT lookaside.watch('orders')");
    const writer = session();
    await writer.unsafe("UPDATE orders SET note = 'a' WHERE id = 1");
    await run("DROP SCHEMA lookaside CASCADE");
    await writer.unsafe("UPDATE orders SET note = 'b' WHERE id = 1");
    assertEquals([...await sql`SELECT 1 FROM pg_trigger WHERE tgrelid = 'orders'::REGCLASS`], []);
    await installChanges(fromPostgresJs(sql), { service: fixture.serviceRole });
    assertEquals((await sql`SELECT version FROM lookaside.installed`)[0]?.version, changesVersion);
  });

  it("is removed table by table without failing a write meanwhile", async () => {
    await run("SELECT lookaside.watch('orders')");
    let writing = true;
    let writes = 0;
    // One row a statement: random() in the condition would be another number for each row, and of several rows two
    // writers may wait for each other.
    const writers = later(Promise.all(Array.from({ length: 4 }, async (_, index) => {
      const writer = session();
      for (; writing; writes++) {
        await writer.unsafe(`UPDATE orders SET note = 'w' WHERE id = ${1 + (writes + index) % 9}`);
      }
    })));
    await eventually(() => assert(writes > 100));
    await run("SELECT lookaside.forget('orders')");
    await run("DROP SCHEMA lookaside CASCADE");
    const before = writes;
    await eventually(() => assert(writes > before + 100));
    writing = false;
    await writers;
    await installChanges(fromPostgresJs(sql), { service: fixture.serviceRole });
  });

  it("is not installed where names would not be those of programs, also not by psql", async () => {
    await using latin = await createTestDatabase(server(), "LATIN1");
    const latin1 = fixture.connect(latin.url, { max: 1 });
    const byPsql = async () => {
      for (const statement of changesStatements) await latin1.unsafe(statement);
    };
    for (const install of [byPsql, () => installChanges(fromPostgresJs(latin1))]) {
      const { message } = await assertRejects(install, Error);
      assertEquals(message, "Cannot watch a database in LATIN1: it has to be in UTF8");
    }
    await latin1.end();
  });

  it("is installed as well by psql", async () => {
    await run("DROP SCHEMA lookaside CASCADE");
    await session().unsafe(changesSql);
    await session().unsafe(changesSql); // again is no harm
    await run("SELECT lookaside.watch('orders')");
    assertEquals(await notedOf("DELETE FROM orders WHERE id = 1"), one("orders", ["1"]));
    await run(`SELECT lookaside.admit('${fixture.serviceRole}')`);
  });
}
