/**
 * The oldest and the newest PostgreSQL beside the one that the suite runs on: what the module promises on any, and
 * the writers and columns that only the newest has.
 *
 * @module
 */
import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { afterAll, afterEach, beforeAll, describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import { fromPostgresJs } from "../../changes/adapters/postgres_js.ts";
import { checkWatched, installChanges } from "../../changes/install.ts";
import { plain } from "../../changes/names.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import { HAS_VERSIONS, startVersion } from "./postgres.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { serviceEnv } from "../../tests/support/service_env.ts";
import { createTestDatabase } from "../../tests/support/test_database.ts";
import { attacksSuite } from "../../tests/changes/attacks_suite.ts";
import { notificationsSuite } from "../../tests/changes/notifications_suite.ts";
import {
  type ChangesFixture,
  createChangesDatabase,
  type Noted,
} from "../../tests/changes/changes_fixture.ts";
import { watchSuite } from "../../tests/changes/watch_suite.ts";

for (const version of [13, 18] as const) {
  const name = HAS_VERSIONS
    ? `PostgreSQL ${version}`
    : `PostgreSQL ${version}: skipped, for npm has no programs of it for ${Deno.build.target}`;

  describe(name, { ignore: !HAS_VERSIONS }, () => {
    const stack = new AsyncDisposableStack();
    let server = "";
    beforeAll(async () => void (server = stack.use(await startVersion(version)).url));
    afterAll(() => stack.disposeAsync());

    it("is what answers", async () => {
      const sql = postgres(server, { max: 1 });
      const [row] = await sql<{ server_version: string }[]>`SHOW server_version`;
      await sql.end();
      assertEquals(parseInt(row?.server_version ?? ""), version);
    });

    describe("lookaside.watch()", () => watchSuite(() => server, version));
    describe("a stranger", () => attacksSuite(() => server));
    describe("the notifications of writers", () => notificationsSuite(() => server));
    describe("the service", () => serviceSuite(() => server));
    if (version === 18) newestSuite(() => server);
  });
}

/** What only the newest version has. */
function newestSuite(server: () => string): void {
  describe("writers of its own", () => writersSuite(server));
  describe("virtual columns", () => virtualColumnsSuite(server));

  it("is installed for its service's role by a role that made that one, and is no superuser", async () => {
    const admin = postgres(server(), { max: 1, onnotice: () => undefined });
    await using database = await createTestDatabase(server());
    const [maker, service] = ["maker", "service"].map((name) => `${name}_${database.name}`);
    await admin.unsafe(`CREATE ROLE ${maker} LOGIN CREATEROLE`);
    await admin.unsafe(`ALTER DATABASE ${database.name} OWNER TO ${maker}`);
    const connect = (role = "") =>
      postgres(database.url.replace("postgres@", `${role}@`), {
        max: 1,
        prepare: false,
        fetch_types: false,
        onnotice: () => undefined,
      });
    const [by, relay] = [connect(maker), connect(service)];
    try {
      await by.unsafe(`CREATE ROLE ${service} LOGIN`);
      await by`CREATE SCHEMA app`;
      await by`CREATE TABLE app.orders (id INT PRIMARY KEY)`;
      await installChanges(fromPostgresJs(by), { service: service ?? "" });
      await by`SELECT lookaside.watch('app.orders')`;
      assertEquals(await checkWatched(fromPostgresJs(relay)), []);
    } finally {
      await Promise.all([by.end(), relay.end()]);
      await admin.unsafe(`DROP DATABASE ${database.name} WITH (FORCE)`);
      await admin.unsafe(`CREATE DATABASE ${database.name}`);
      await admin.unsafe(`DROP ROLE ${service}; DROP ROLE ${maker}`);
      await admin.end();
    }
  });
}

/** Statements that no earlier version has, or has for other tables. */
function writersSuite(server: () => string): void {
  let fixture: ChangesFixture;
  beforeAll(async () => {
    fixture = await createChangesDatabase(server());
    await fixture.admin`CREATE EXTENSION btree_gist`;
  });
  afterEach(async () => {
    await fixture.owner`SELECT lookaside.forget(label) FROM lookaside.watched`;
    await fixture.owner`DROP TABLE IF EXISTS t, p`;
  });
  afterAll(async () => await fixture[Symbol.asyncDispose]());

  const ORDERS =
    `CREATE TABLE t (id INT PRIMARY KEY, n INT); INSERT INTO t SELECT g, g FROM generate_series(1, 5) g;
    SELECT lookaside.watch('t', columns => '{n}', matter => '{}')`;
  const PRICES =
    `CREATE TABLE t (id INT, during DATERANGE, n INT, PRIMARY KEY (id, during WITHOUT OVERLAPS));
    INSERT INTO t VALUES (1, '[2026-01-01,2026-02-01)', 5); SELECT lookaside.watch('t', columns => '{n}')`;
  const [JANUARY, FEBRUARY] = ["[2026-01-01,2026-02-01)", "[2026-02-01,2026-03-01)"];
  const noted = (keys: string[], ...values: string[]): Noted => ({ label: "t", keys, values });
  const cases: readonly (readonly [string, setup: string, statement: string, Noted[]])[] = [
    [
      "UPDATE … RETURNING of old and new values",
      ORDERS,
      "UPDATE t SET n = 0 WHERE id = 1 RETURNING old.n, new.n",
      [noted(["1"], "n=0", "n=1")],
    ],
    [
      "DELETE … RETURNING of new values",
      ORDERS,
      "DELETE FROM t WHERE id = 1 RETURNING old.n, new.n",
      [noted(["1"], "n=1")],
    ],
    [
      "MERGE … RETURNING, by statement",
      ORDERS,
      `MERGE INTO t USING (VALUES (1), (9)) AS s (id) ON t.id = s.id
       WHEN MATCHED THEN UPDATE SET n = 0 WHEN NOT MATCHED THEN INSERT VALUES (s.id, 7)
       WHEN NOT MATCHED BY SOURCE AND t.id > 3 THEN DELETE RETURNING merge_action(), old.n, new.n`,
      [noted(["1"], "n=0", "n=1"), noted(["4", "5"], "n=4", "n=5"), noted(["9"], "n=7")],
    ],
    [
      "a MERGE within a WITH, whose rows an INSERT takes",
      ORDERS,
      `WITH gone AS (MERGE INTO t USING (VALUES (1)) AS s (id) ON t.id = s.id
         WHEN MATCHED THEN DELETE RETURNING t.id)
       INSERT INTO t SELECT id + 100, 8 FROM gone`,
      [noted(["1"], "n=1"), noted(["101"], "n=8")],
    ],
    [
      "an UPDATE of a row whose key is without overlaps",
      PRICES,
      "UPDATE t SET n = 6",
      [noted([`1,${plain(JANUARY ?? "")}`], "n=5", "n=6")],
    ],
    [
      "an UPDATE that moves it to another time",
      PRICES,
      `UPDATE t SET during = '${FEBRUARY}'`,
      [noted([`1,${plain(FEBRUARY ?? "")}`, `1,${plain(JANUARY ?? "")}`].toSorted(), "n=5")],
    ],
    [
      "an INSERT beside it",
      PRICES,
      `INSERT INTO t VALUES (1, '${FEBRUARY}', 7)`,
      [noted([`1,${plain(FEBRUARY ?? "")}`], "n=7")],
    ],
    [
      "an INSERT that is against a constraint which is not enforced",
      `CREATE TABLE p (id INT PRIMARY KEY); CREATE TABLE t (id INT PRIMARY KEY CHECK (id > 0) NOT ENFORCED,
         n INT REFERENCES p ON DELETE CASCADE NOT ENFORCED); SELECT lookaside.watch('t', columns => '{n}')`,
      "INSERT INTO t VALUES (-1, 4711); DELETE FROM p",
      [noted(["-1"], "n=4711")],
    ],
    [
      "a DELETE that cascades, once the constraint is enforced",
      `CREATE TABLE p (id INT PRIMARY KEY); INSERT INTO p VALUES (1);
       CREATE TABLE t (id INT PRIMARY KEY, n INT CONSTRAINT c REFERENCES p ON DELETE CASCADE NOT ENFORCED);
       INSERT INTO t VALUES (7, 1); ALTER TABLE t ALTER CONSTRAINT c ENFORCED; SELECT lookaside.watch('t', columns => '{n}')`,
      "DELETE FROM p",
      [noted(["7"], "n=1")],
    ],
    [
      "a DELETE of a row without the key, where NOT NULL is not valid for all",
      `CREATE TABLE t (id INT PRIMARY KEY, n INT UNIQUE); INSERT INTO t VALUES (1, NULL);
       ALTER TABLE t ADD CONSTRAINT filled NOT NULL n NOT VALID; SELECT lookaside.watch('t', key => '{n}')`,
      "DELETE FROM t",
      [{ label: "t", keys: null, values: null }],
    ],
  ];
  for (const [who, setup, statement, expected] of cases) {
    it(`are seen: ${who}`, async () => {
      await fixture.owner.unsafe(setup);
      await fixture.noted();
      await fixture.owner.unsafe(statement);
      const rows = await fixture.noted();
      // Postgres says nowhere in which order the parts of a statement fire their triggers.
      assertEquals(rows.toSorted((a, b) => `${a.keys}` < `${b.keys}` ? -1 : 1), expected);
    });
  }

  it("are seen: COPY that passes over what is no row, keys by uuidv7()", async () => {
    await fixture.owner.unsafe(
      `CREATE TABLE t (id UUID PRIMARY KEY DEFAULT uuidv7(), n INT); SELECT lookaside.watch('t')`,
    );
    await fixture.noted();
    const stream = await fixture.owner`COPY t (n) FROM STDIN (ON_ERROR ignore, REJECT_LIMIT 1)`
      .writable();
    stream.end("1\nnone\n2\n");
    await new Promise((resolve) => stream.on("finish", resolve));
    await eventually(async () => assertEquals((await fixture.owner`SELECT FROM t`).length, 2));
    const ids = await fixture.owner<{ id: string }[]>`SELECT id::TEXT AS id FROM t ORDER BY id`;
    assertEquals((await fixture.noted())[0]?.keys, ids.map(({ id }) => id));
  });
}

/** Columns that are made when they are read: no row that a trigger is given has their value. */
function virtualColumnsSuite(server: () => string): void {
  let fixture: ChangesFixture;
  const run = (statement: string) => fixture.owner.unsafe(statement);
  const notedOf = async (statement: string): Promise<Noted[]> => {
    await fixture.noted();
    await run(statement);
    return await fixture.noted();
  };
  const rows = (keys: string[] | null, values: string[] | null = null): Noted[] => [
    { label: "v", keys, values },
  ];
  const [one, whole] = [rows(["1"], []), rows(null)];

  beforeAll(async () => {
    fixture = await createChangesDatabase(server());
  });
  afterAll(async () => await fixture[Symbol.asyncDispose]());
  const table = async (columns: string): Promise<void> => {
    await run("SELECT lookaside.forget(label) FROM lookaside.watched; DROP TABLE IF EXISTS v");
    await run(`CREATE TABLE v (id INT PRIMARY KEY, a INT, b INT, other INT, ${columns});
      INSERT INTO v (id, a, b) VALUES (1, 2, 3)`);
  };

  it("matter by what they are made of, and no more", async () => {
    await table(
      "sum INT GENERATED ALWAYS AS (a + b) VIRTUAL, stored INT GENERATED ALWAYS AS (a) STORED",
    );
    await run("SELECT lookaside.watch('v', matter => '{sum}')");
    assertEquals(await notedOf("UPDATE v SET a = 20"), one);
    assertEquals(await notedOf("UPDATE v SET b = 30"), one);
    assertEquals(await notedOf("UPDATE v SET other = 40"), []);
    assertEquals(await notedOf("INSERT INTO v (id) VALUES (2)"), rows(["2"]));
    await run("DELETE FROM v WHERE id = 2; SELECT lookaside.watch('v', matter => '{stored}')");
    assertEquals(await notedOf("UPDATE v SET a = 21"), one);
    assertEquals(await notedOf("UPDATE v SET b = 31"), []);
  });

  it("matter also where they are made of nothing, or of other columns in a partition", async () => {
    await table("one INT GENERATED ALWAYS AS (1) VIRTUAL");
    await run("SELECT lookaside.watch('v', matter => '{one}')");
    assertEquals(await notedOf("UPDATE v SET a = 20"), []);
    await run(`SELECT lookaside.unwatch('v'); DROP TABLE v;
      CREATE TABLE v (id INT PRIMARY KEY, a INT, b INT, m INT GENERATED ALWAYS AS (a) VIRTUAL) PARTITION BY RANGE (id);
      CREATE TABLE v1 PARTITION OF v (m GENERATED ALWAYS AS (b)) FOR VALUES FROM (0) TO (9);
      INSERT INTO v VALUES (1, 2, 3); SELECT lookaside.watch('v', matter => '{m}')`);
    assertEquals(await notedOf("UPDATE v SET b = 4"), one);
    assertEquals(await notedOf("UPDATE v1 SET b = 5"), one);
  });

  it("are refused as key and columns of names, and break no write of a table that has them", async () => {
    await table("sum INT GENERATED ALWAYS AS (a + b) VIRTUAL");
    const error = await assertRejects(() => run("SELECT lookaside.watch('v', columns => '{sum}')"));
    assertMatch(String(error), /Cannot watch public.v: column sum is virtual/);
    await run("SELECT lookaside.watch('v', columns => '{a}')");
    assertEquals(await notedOf("UPDATE v SET b = 30"), rows(["1"], ["a=2"]));
  });

  it("are noticed at the next check where they are made in another way", async () => {
    for (const kind of ["VIRTUAL", "STORED"]) {
      await table(`sum INT GENERATED ALWAYS AS (a + b) ${kind}`);
      await run("SELECT lookaside.watch('v', matter => '{sum}')");
      await run("ALTER TABLE v ALTER sum SET EXPRESSION AS (a - b)");
      await fixture.noted();
      assertEquals(await checkWatched(fixture.service), []);
      assertEquals(await fixture.noted(), whole, kind);
      await run("ALTER TABLE v ALTER sum SET EXPRESSION AS (other)");
      assertEquals(await checkWatched(fixture.service), []);
      assertEquals(await notedOf("UPDATE v SET other = 40"), one, kind);
      assertEquals(await checkWatched(fixture.service), []);
      assertEquals(await fixture.noted(), [], kind);
    }
  });

  it("in the place of a watched column count for the table from the next check on, which says so", async () => {
    await table("n INT");
    await run("SELECT lookaside.watch('v', columns => '{n}', matter => '{a}')");
    await run("ALTER TABLE v DROP COLUMN n, ADD COLUMN n INT GENERATED ALWAYS AS (a) VIRTUAL");
    const [said] = await checkWatched(fixture.service);
    assertMatch(said?.problem ?? "", /column n is virtual/);
    assertEquals(await notedOf("UPDATE v SET a = 9"), whole);
    assertEquals(await notedOf("INSERT INTO v (id) VALUES (2)"), whole);
    assertEquals(await notedOf("DELETE FROM v WHERE id = 2"), whole);
    // In one transaction.
    await run(`ALTER TABLE v DROP COLUMN id, ADD COLUMN id INT GENERATED ALWAYS AS (a) VIRTUAL;
      SELECT lookaside.check()`);
    assertMatch((await checkWatched(fixture.service))[0]?.problem ?? "", /no unique index/);
    assertEquals(await notedOf("UPDATE v SET a = 10"), whole);
  });
}

/** The whole service over a database that was made as `deno task seed` makes it. */
function serviceSuite(server: () => string): void {
  const stack = new AsyncDisposableStack();
  let service: Service;
  let sql: postgres.Sql;
  beforeAll(async () => {
    const database = stack.use(await createSeededDatabase(20, server()));
    service = stack.use(
      await startService({
        env: serviceEnv(database.url),
      }),
    );
    sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    stack.defer(() => sql.end());
    await cacheInUse(service);
  });
  afterAll(() => stack.disposeAsync());

  const user = async (id: number): Promise<{ source: string; data: { name: string } }> =>
    await (await service.fetch(`/users/${id}`)).json();

  it("answers what it wrote, and what others wrote past it", async () => {
    for (let read = 0; read < 2; read++) await user(2);
    assertEquals((await user(2)).source, "cache");
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ name: "By the service" });
    const answer = await service.fetch("/users/2", { method: "PATCH", headers, body });
    assertEquals([answer.status, (await answer.json()).data.name], [200, "By the service"]);
    assertEquals((await user(2)).data.name, "By the service");
    await sql`UPDATE users SET name = 'By psql' WHERE id = 2`;
    await eventually(async () => assertEquals((await user(2)).data.name, "By psql"));
    const { data } = await (await service.fetch("/users?page=1&limit=5")).json();
    assertEquals(data.length, 5);
  });
}
