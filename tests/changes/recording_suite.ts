import { assertEquals } from "@std/assert";
import { beforeEach, describe, it } from "@std/testing/bdd";
import { checkWatched } from "../../changes/install.ts";
import { labelOf, plain, valueOf } from "../../changes/names.ts";
import fc from "fast-check";
import { eventually } from "../../tools/servers/eventually.ts";
import type { Noted } from "./changes_fixture.ts";
import { fixture, notedOf, one, run, session, sql, whole } from "./watch_stage.ts";

/** The record that a statement leaves of itself, on a server of this version. */
export function recordingSuite(version: number): void {
  // Not skipped where the version has no such statement: a suite that skips something has not passed.
  const describeMerge = version >= 15 ? describe : () => undefined;

  describe("has a statement leave", () => {
    const cases: readonly (readonly [string, Noted[]])[] = [
      [
        "INSERT INTO orders (customer_id) VALUES (7), (8)",
        one("orders", ["10", "11"], [
          "customer_id=7",
          "customer_id=8",
        ]),
      ],
      [
        "UPDATE orders SET customer_id = 8 WHERE id = 1",
        one("orders", ["1"], [
          "customer_id=1",
          "customer_id=8",
        ]),
      ],
      ["UPDATE orders SET note = 'x' WHERE id = 1", one("orders", ["1"], ["customer_id=1"])],
      [
        "UPDATE orders SET id = 99, customer_id = NULL WHERE id = 5",
        one("orders", ["5", "99"], [
          "customer_id",
          "customer_id=2",
        ]),
      ],
      ["DELETE FROM orders WHERE id IN (6, 9)", one("orders", ["6", "9"], ["customer_id=0"])],
      ["TRUNCATE orders", [whole("orders")]],
      ["UPDATE orders SET note = 'y' WHERE id = 4711", []],
      ["DELETE FROM orders WHERE id = 4711", []],
      ["INSERT INTO orders (id) VALUES (1) ON CONFLICT DO NOTHING", []],
      [
        "INSERT INTO orders (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET note = 'z'",
        one("orders", ["1"], ["customer_id=1"]),
      ],
      ["INSERT INTO orders (note) SELECT 'x' FROM generate_series(1, 1001)", [whole("orders")]],
    ];
    for (const [statement, expected] of cases) {
      it(`${JSON.stringify(expected)}: ${statement}`, async () => {
        await run("SELECT lookaside.watch('orders', columns => '{customer_id}')");
        assertEquals(await notedOf(statement), expected);
      });
    }

    it("1,000 rows and no more", async () => {
      await run("SELECT lookaside.watch('orders', columns => '{customer_id}')");
      const insert = "INSERT INTO orders (note) SELECT 'x' FROM generate_series(1, 1000)";
      assertEquals((await notedOf(insert))[0]?.keys?.length, 1_000);
      assertEquals(
        (await notedOf("UPDATE orders SET note = '' WHERE id > 9"))[0]?.keys?.length,
        1_000,
      );
      assertEquals(await notedOf("UPDATE orders SET note = '' WHERE id > 8"), [whole("orders")]);
      assertEquals(await notedOf("DELETE FROM orders"), [whole("orders")]);
    });

    it("nothing that is rolled back", async () => {
      await run("SELECT lookaside.watch('orders')");
      await fixture.noted();
      await session().unsafe("BEGIN; UPDATE orders SET note = 'y'; ROLLBACK");
      assertEquals(await fixture.noted(), []);
    });
  });

  describe("with matter", () => {
    beforeEach(() =>
      run("SELECT lookaside.watch('orders', columns => '{customer_id}', matter => '{note}')")
    );
    const cases: readonly (readonly [string, Noted[]])[] = [
      ["UPDATE orders SET seen = now()", []],
      ["UPDATE orders SET note = 'x' WHERE id = 1", one("orders", ["1"], ["customer_id=1"])],
      [
        "UPDATE orders SET note = CASE id WHEN 1 THEN 'x' END",
        one("orders", ["1"], ["customer_id=1"]),
      ],
      [
        "UPDATE orders SET customer_id = 0",
        one("orders", ["1", "2", "4", "5", "7", "8"], [
          "customer_id=0",
          "customer_id=1",
          "customer_id=2",
        ]),
      ],
      ["UPDATE orders SET id = 99 WHERE id = 1", one("orders", ["1", "99"], ["customer_id=1"])],
      // Two rows trade their keys: each key has another row then.
      [
        "UPDATE orders SET id = CASE id WHEN 1 THEN -2 ELSE -1 END, note = NULL WHERE id IN (1, 2)",
        one(
          "orders",
          ["-1", "-2", "1", "2"],
          ["customer_id=1", "customer_id=2"],
        ),
      ],
    ];
    for (const [statement, expected] of cases) {
      it(`leaves ${JSON.stringify(expected)}: ${statement}`, async () => {
        assertEquals(await notedOf(statement), expected);
      });
    }

    it("leaves nothing of a bulk that changes nothing, and the table of another", async () => {
      await run("INSERT INTO orders (note) SELECT 'x' FROM generate_series(1, 5000)");
      assertEquals(await notedOf("UPDATE orders SET seen = now()"), []);
      assertEquals(await notedOf("UPDATE orders SET note = 'y'"), [whole("orders")]);
      const thousand = await notedOf("UPDATE orders SET note = 'z' WHERE id > 4009");
      assertEquals(thousand[0]?.keys?.length, 1_000);
      assertEquals(await notedOf("UPDATE orders SET note = 'a' WHERE id > 4008"), [
        whole("orders"),
      ]);
    });
  });

  describe("names", () => {
    it("values and labels as changes/names.ts does", async () => {
      const text = fc.string({ unit: "binary", maxLength: 80 }).filter((value) =>
        !value.includes("\0") && value.isWellFormed()
      );
      await run("CREATE TABLE texts (id TEXT PRIMARY KEY, v TEXT)");
      await run("SELECT lookaside.watch('texts', columns => '{v}')");
      await fixture.noted();
      await fc.assert(
        fc.asyncProperty(fc.uniqueArray(text, { minLength: 1, maxLength: 20 }), async (texts) => {
          await sql`INSERT INTO texts SELECT v, v FROM jsonb_array_elements_text(${
            JSON.stringify(texts)
          }::TEXT::JSONB) v`;
          const [row] = await fixture.noted();
          assertEquals(row?.keys, texts.map(plain).toSorted());
          assertEquals(row?.values, texts.map((value) => valueOf("v", value)).toSorted());
          const labels = await sql<{ label: string }[]>`
            SELECT lookaside.label(v, v) AS label FROM jsonb_array_elements_text(${
            JSON.stringify(texts)
          }::TEXT::JSONB) v`;
          assertEquals(labels.map(({ label }) => label), texts.map((v) => labelOf([v, v])));
          await run("DELETE FROM texts");
          await fixture.noted();
        }),
        { numRuns: 30 },
      );
      await run("SELECT lookaside.unwatch('texts'); DROP TABLE texts");
    });

    const values: readonly (readonly [type: string, value: string, name: string])[] = [
      ["BOOLEAN", "true", "v=true"],
      ["CHAR(8)", "'ab'", "v=ab"],
      ["UUID", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "v=a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
      ["TIMESTAMPTZ", "'2026-01-02 03:04:05+02'", `v=${plain("2026-01-02 01:04:05+00")}`],
      ["DATE", "'2026-01-02'", "v=2026-01-02"],
      ["FLOAT8", "0.1::FLOAT8 + 0.2", "v=0.30000000000000004"],
      ["NUMERIC", "1.50", "v=1.50"],
      ["mood", "'so so'", `v=${plain("so so")}`],
      ["positive", "7", "v=7"],
      ["TEXT", "NULL", "v"],
    ];
    for (const [type, value, name] of values) {
      it(`a value of ${type} by its text, whatever the session has set`, async () => {
        await run(
          `CREATE TYPE mood AS ENUM ('so so'); CREATE DOMAIN positive AS INT CHECK (VALUE > 0);
          CREATE TABLE typed (id INT PRIMARY KEY, v ${type});
          SELECT lookaside.watch('typed', columns => '{v}')`,
        );
        await fixture.noted();
        await run(`SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German';
          SET LOCAL extra_float_digits = -5; INSERT INTO typed VALUES (1, ${value})`);
        assertEquals(await fixture.noted(), one("typed", ["1"], [name]));
        await run(
          "DROP TABLE typed; DROP DOMAIN positive; DROP TYPE mood",
        );
      });
    }

    for (const matter of ["", ", matter => '{}'"]) {
      it(`columns of other collations, and texts that are equal in one of them${matter}`, async () => {
        await run(
          `CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
          CREATE TABLE texts (a TEXT COLLATE "C", b TEXT COLLATE "POSIX", v TEXT COLLATE caseless, PRIMARY KEY (a, b));
          INSERT INTO texts VALUES ('1', '2', 'x');
          SELECT lookaside.watch('texts', columns => '{v}'${matter})`,
        );
        await fixture.noted();
        const update = "UPDATE texts SET v = 'X'";
        assertEquals(await notedOf(update), one("texts", ["1,2"], ["v=X", "v=x"]));
        await run("DROP TABLE texts; DROP COLLATION caseless");
      });
    }

    it("tables and columns that have to be quoted, in any schema", async () => {
      await run(`CREATE SCHEMA "Größe ""%s"; CREATE TABLE "Größe ""%s"."Order's %I" (
          "Id %L" INT, "second,""key" TEXT, "k" INT, "v" INT, "found" INT, "missing" INT,
          PRIMARY KEY ("Id %L", "second,""key"));
        SELECT lookaside.watch('"Größe ""%s"."Order''s %I"', columns => '{k,v,found,missing,"second,\\"key"}')`);
      await fixture.noted();
      const label = labelOf(['Größe "%s', "Order's %I"]);
      await run(`INSERT INTO "Größe ""%s"."Order's %I" VALUES (1, 'a b', 2, 3, 4, 5)`);
      assertEquals(
        await fixture.noted(),
        one(
          label,
          [`1,${plain("a b")}`],
          [
            valueOf("k", 2),
            valueOf("v", 3),
            valueOf("found", 4),
            valueOf("missing", 5),
            valueOf('second,"key', "a b"),
          ].toSorted(),
        ),
      );
      assertEquals(await checkWatched(fixture.service), []);
      await run(
        `SELECT lookaside.unwatch('"Größe ""%s"."Order''s %I"'); DROP SCHEMA "Größe ""%s" CASCADE`,
      );
    });
  });

  describe("sees whoever writes", () => {
    beforeEach(async () => {
      await run(`DROP TABLE orders;
        CREATE TABLE orders (id INT PRIMARY KEY, n INT) PARTITION BY RANGE (id);
        CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (100);
        CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
        CREATE TABLE orders_2a PARTITION OF orders_2 FOR VALUES FROM (100) TO (150);
        INSERT INTO orders SELECT g, g FROM generate_series(1, 120) g;
        SELECT lookaside.watch('orders', columns => '{n}')`);
    });
    const cases: readonly (readonly [string, string, Noted[]])[] = [
      ["the parent", "UPDATE orders SET n = 0 WHERE id = 1", one("orders", ["1"], ["n=0", "n=1"])],
      [
        "a partition",
        "UPDATE orders_1 SET n = 0 WHERE id = 1",
        one("orders", ["1"], ["n=0", "n=1"]),
      ],
      [
        "a partition of a partition",
        "DELETE FROM orders_2a WHERE id = 101",
        one("orders", ["101"], ["n=101"]),
      ],
      [
        "a row that moves",
        "UPDATE orders SET id = 149 WHERE id = 1",
        one("orders", ["1", "149"], ["n=1"]),
      ],
      ["TRUNCATE of a partition", "TRUNCATE orders_1", [whole("orders")]],
      [
        "a replica",
        "SET session_replication_role = replica; UPDATE orders_1 SET n = 0 WHERE id = 1; RESET session_replication_role",
        one("orders", ["1"], ["n=0", "n=1"]),
      ],
    ];
    for (const [who, statement, expected] of cases) {
      it(`${who}: ${statement}`, async () => {
        await fixture.noted();
        await fixture.admin.unsafe(statement);
        assertEquals(await fixture.noted(), expected);
      });
    }

    describeMerge("that moves a row by MERGE, of which Postgres gives triggers no row", () => {
      const merge = (set: string): string =>
        `MERGE INTO orders t USING (VALUES (1)) AS s (id) ON t.id = s.id WHEN MATCHED THEN UPDATE SET ${set}`;
      const move = "UPDATE orders SET id = 149 WHERE id = 1";
      const cases: readonly (readonly [string, Noted[]])[] = [
        [merge("id = 149"), [whole("orders")]],
        [`PREPARE m AS ${merge("id = 149")}; EXECUTE m; DEALLOCATE m`, [whole("orders")]],
        [`DO $$ BEGIN ${merge("id = 149")}; END $$`, [whole("orders")]],
        [
          `CREATE FUNCTION pg_temp.m() RETURNS void LANGUAGE sql AS $$ ${merge("id = 149")} $$;
          SELECT pg_temp.m()`,
          [whole("orders")],
        ],
        // No row can have moved, and each is given.
        [merge("n = 0"), one("orders", ["1"], ["n=0", "n=1"])],
        [`DO $$ BEGIN ${move}; END $$`, one("orders", ["1", "149"], ["n=1"])],
        [
          "INSERT INTO orders VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET id = 2 * excluded.n",
          one("orders", ["1", "4"], ["n=1"]),
        ],
      ];
      for (const [statement, expected] of cases) {
        it(statement, async () => {
          await run("DELETE FROM orders WHERE id = 4");
          await fixture.noted();
          const writer = session();
          // Each statement by itself: of several at once, each has the text of all.
          for (const each of statement.split(/;\s+(?=EXECUTE|DEALLOCATE|SELECT)/)) {
            await writer.unsafe(each);
          }
          assertEquals(await fixture.noted(), expected);
        });
      }

      it("whatever it sets, where a trigger may set the columns by which the table is partitioned", async () => {
        await run(
          `CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.n = 0 THEN NEW.id := NEW.id + 120; END IF; RETURN NEW; END $$;
          CREATE TRIGGER move BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION move()`,
        );
        assertEquals(await checkWatched(fixture.service), []);
        assertEquals(await notedOf(merge("n = 0")), [whole("orders")]);
        assertEquals(
          await notedOf("UPDATE orders SET n = 0 WHERE id = 2"),
          one("orders", ["122", "2"], ["n=0", "n=2"]),
        );
        // Nor does a column depend on what records it.
        await run(
          "ALTER TABLE orders ADD more INT; ALTER TABLE orders ALTER more TYPE TEXT",
        );
        assertEquals(await checkWatched(fixture.service), []);
        await run("ALTER TABLE orders ALTER more TYPE VARCHAR(9)");
        await run("ALTER TABLE orders DROP COLUMN more");
        assertEquals(await checkWatched(fixture.service), []);
        await fixture.noted();
        assertEquals(await checkWatched(fixture.service), []);
        assertEquals(await fixture.noted(), []);
        await run("DROP FUNCTION move CASCADE");
      });

      it("also once a part is partitioned by another column, and without a trigger too many", async () => {
        await run(
          `CREATE TABLE regions (id INT, region TEXT, n INT, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
          SELECT lookaside.watch('regions');
          CREATE TABLE regions_a PARTITION OF regions FOR VALUES IN ('a') PARTITION BY RANGE (id);
          CREATE TABLE regions_a1 PARTITION OF regions_a FOR VALUES FROM (0) TO (9);
          CREATE TABLE regions_a2 PARTITION OF regions_a FOR VALUES FROM (9) TO (99);
          INSERT INTO regions VALUES (1, 'a', 1)`,
        );
        assertEquals(await checkWatched(fixture.service), []);
        for (const into of ["regions", "regions_a"]) {
          await fixture.noted();
          await run(
            `MERGE INTO ${into} USING (VALUES (1)) AS s (x) ON TRUE WHEN MATCHED THEN UPDATE SET id = 10 - id`,
          );
          assertEquals(await fixture.noted(), [whole("regions")]);
        }
        const [hung] = await sql<{ count: string }[]>`
          SELECT count(*)::TEXT FROM pg_trigger WHERE tgrelid::REGCLASS::TEXT LIKE 'regions%'`;
        assertEquals(hung?.count, "18");
        await run("SELECT lookaside.unwatch('regions'); DROP TABLE regions");
      });
    });

    it("COPY into a partition", async () => {
      await fixture.noted();
      const stream = await sql`COPY orders_2a FROM STDIN`.writable();
      stream.end("140\t7\n");
      await new Promise((resolve) => stream.on("finish", resolve));
      await eventually(async () => assertEquals((await fixture.noted())[0]?.keys, ["140"]));
    });

    it("a child that inherits", async () => {
      await run(
        `CREATE TABLE par (id INT PRIMARY KEY, n INT); CREATE TABLE chi (more INT) INHERITS (par);
        INSERT INTO chi VALUES (1, 2, 3); SELECT lookaside.watch('par')`,
      );
      assertEquals(await notedOf("UPDATE chi SET n = 5"), one("par", ["1"]));
      assertEquals(await notedOf("UPDATE par SET n = 6"), one("par", ["1"]));
      assertEquals(await notedOf("DELETE FROM chi"), one("par", ["1"]));
      await run("SELECT lookaside.unwatch('par'); DROP TABLE par CASCADE");
    });

    it("partitions that are made, attached, detached and dropped, at the next check", async () => {
      const check = async (): Promise<Noted[]> => {
        await fixture.noted();
        assertEquals(await checkWatched(fixture.service), []);
        return await fixture.noted();
      };
      assertEquals(await check(), []);
      await run("CREATE TABLE orders_3 PARTITION OF orders FOR VALUES FROM (200) TO (300)");
      assertEquals(await check(), [whole("orders")]);
      assertEquals(
        await notedOf("INSERT INTO orders_3 VALUES (200, 1)"),
        one("orders", ["200"], ["n=1"]),
      );
      await run(
        `CREATE TABLE orders_4 (id INT PRIMARY KEY, n INT); INSERT INTO orders_4 VALUES (300, 1);
        ALTER TABLE orders ATTACH PARTITION orders_4 FOR VALUES FROM (300) TO (400)`,
      );
      assertEquals(await check(), [whole("orders")]);
      assertEquals(
        await notedOf("UPDATE orders_4 SET n = 2"),
        one("orders", ["300"], ["n=1", "n=2"]),
      );
      await run("ALTER TABLE orders DETACH PARTITION orders_4");
      assertEquals(await check(), [whole("orders")]);
      assertEquals(await notedOf("UPDATE orders_4 SET n = 3"), []);
      await run("DROP TABLE orders_1");
      assertEquals(await check(), [whole("orders")]);
      assertEquals(await check(), []);
      await run("DROP TABLE orders_4");
    });
  });
}
