/**
 * The names that the triggers write down are those that a reader carries, whatever the values.
 */
import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { keyOf, labelOf, type Value, valueOf } from "../../changes/names.ts";
import { type ChangesFixture, createChangesDatabase } from "./changes_fixture.ts";

let fixture: ChangesFixture;

/** Any text that Postgres can hold. */
const text = fc.string({ unit: "binary", maxLength: 80 }).filter((value) => !value.includes("\0"));
const name = text.filter((value) => value !== "" && new TextEncoder().encode(value).length < 64);

/** Values of columns, by their type. */
const values: Readonly<Record<string, fc.Arbitrary<Value>>> = {
  text,
  "varchar(100)": text,
  "char(90)": text.map((value) => value.replace(/ +$/, "")),
  int2: fc.integer({ min: -(2 ** 15), max: 2 ** 15 - 1 }),
  int4: fc.integer(),
  int8: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  boolean: fc.boolean(),
  uuid: fc.uuid(),
  date: fc.date({ min: new Date("0001-01-01"), max: new Date("9999-12-31"), noInvalidDate: true })
    .map((date) => date.toISOString().slice(0, 10)),
};

const quoted = (identifier: string) => `"${identifier.replaceAll('"', '""')}"`;

describe("the names of the changes module in SQL", () => {
  beforeAll(async () => {
    fixture = await createChangesDatabase();
  });
  afterAll(async () => {
    await fixture[Symbol.asyncDispose]();
  });

  for (const [type, arbitrary] of Object.entries(values)) {
    it(`are those of JavaScript for ${type}`, async () => {
      const { owner } = fixture;
      await owner.unsafe(
        `DROP TABLE IF EXISTS t; CREATE TABLE t (a ${type}, b ${type}, PRIMARY KEY (a, b))`,
      );
      await owner.unsafe("SELECT lookaside.watch('t', '{b}')");
      await fixture.noted();
      await fc.assert(
        fc.asyncProperty(arbitrary, arbitrary, async (a, b) => {
          await owner.unsafe(
            `INSERT INTO t VALUES ($1::text::${type}, $2::text::${type})`,
            [`${a}`, `${b}`],
          );
          assertEquals(await fixture.noted(), [
            { label: "t", keys: [keyOf([a, b])], values: [valueOf("b", b)] },
          ]);
          await owner.unsafe("DELETE FROM t");
          await fixture.noted();
        }),
        { numRuns: 30 },
      );
    });
  }

  it("are those of JavaScript for schemas, tables and columns, and for null", async () => {
    const { owner } = fixture;
    await fc.assert(
      fc.asyncProperty(name, name, name, async (schema, table, column) => {
        fc.pre(column !== "id" && !/^(pg_|public$|lookaside$|information_schema$)/.test(schema));
        const relation = `${quoted(schema)}.${quoted(table)}`;
        await owner.unsafe(`CREATE SCHEMA ${quoted(schema)}`);
        await owner.unsafe(`CREATE TABLE ${relation} (id INT PRIMARY KEY, ${quoted(column)} INT)`);
        await owner.unsafe("SELECT lookaside.watch($1::text::regclass, ARRAY[$2::text])", [
          relation,
          column,
        ]);
        await fixture.noted();
        await owner.unsafe(`INSERT INTO ${relation} VALUES (1)`);
        assertEquals(await fixture.noted(), [
          { label: labelOf([schema, table]), keys: ["1"], values: [valueOf(column, null)] },
        ]);
        await owner.unsafe(`DROP SCHEMA ${quoted(schema)} CASCADE`);
        await owner.unsafe("SELECT lookaside.forget(label) FROM lookaside.watched");
        await fixture.noted();
      }),
      { numRuns: 30 },
    );
  });
});
