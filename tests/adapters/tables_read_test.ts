import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { locksRows, tablesRead } from "../../adapters/drizzle/tables_read.ts";

/** Statements, and the tables that they read; `undefined`: the text does not tell. */
const READS: readonly (readonly [sql: string, tables: readonly string[] | undefined])[] = [
  ['select "id" from "orders" where "orders"."id" = $1', ["orders"]],
  ['select 1 from "sales"."orders" "o" left join "users" on true', ["sales.orders", "users"]],
  ['select 1 from "orders" where exists (select 1 from "paid" where "n" in (select 2 from pays))', [
    "orders",
    "paid",
    "pays",
  ]],
  ['select 1 from (select 2 from "orders") "x" cross join lateral (select 3 from "b") "y"', [
    "orders",
    "b",
  ]],
  ["select 1 from ONLY Orders o", ["orders"]],
  ['select 1 from "my.or""ders"', ['my.or"ders']],
  ['with "top" as (select 1 from "orders"), "b" as (select 2 from "top") select 3 from "b"', [
    "orders",
  ]],
  // A query of WITH may have the name of the table that it reads.
  ['with "orders" as (select 1 from "orders") select 2 from "orders"', ["orders"]],
  ['with "x)" as (select 1 from "x)") select 2 from "x)"', ["x)"]],
  ["select 'from x', '''from y' from \"o'brien\" where 'from z' <> \"it's\"", ["o'brien"]],
  [
    'select extract(year from "at"), substring("a" from 2), trim(both \'x\' from "a") from "orders"',
    [
      "orders",
    ],
  ],
  ['select 1 from "orders" where "a" is distinct from "b" and "c" is not distinct from $1', [
    "orders",
  ]],
  ["select 1", undefined],
  ["select 1 from generate_series(1, 2)", undefined],
  ['select 1 from "orders", "paid"', undefined],
  ['select 1 from "orders" as o, "paid"', undefined],
  ["select 1 from $1", undefined],
  ["select $$ from $$ from orders", undefined],
  ["select $a$ from $a$ from orders", undefined],
  ["select E'\\'' from orders where '' = ''", undefined],
  ["select 1 -- '\nfrom orders where '' = ''", undefined],
  ["select 1 /* ' */ from orders where '' = ''", undefined],
];

describe("tablesRead()", () => {
  for (const [sql, tables] of READS) {
    it(sql, () => {
      const found = tablesRead(sql)?.map(([schema, name]) => schema ? `${schema}.${name}` : name);
      assertEquals(found?.toSorted(), tables?.toSorted());
    });
  }
});

describe("locksRows()", () => {
  for (
    const lock of ["for update", "FOR NO KEY UPDATE skip locked", "for share", "for\n key  share"]
  ) {
    it(lock, () => assertEquals(locksRows(`select 1 from "orders" ${lock}`), true));
  }

  it("is false for a name or a text with these words", () => {
    assertEquals(locksRows(`select 'for update' as "for share" from "for updates"`), false);
    assertEquals(locksRows("select substring(a from 1 for updates) from orders"), false);
  });
});
