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
  ['select 1 from "orders", "paid"', ["orders", "paid"]],
  ['select 1 from "orders" as o, "paid"', ["orders", "paid"]],
  ["select 1 from a as x(i, n), b where x.i in (1, c)", ["a", "b"]],
  ["select 1 from a *, only (b), c tablesample system (100), d", ["a", "b", "c", "d"]],
  ["select 1 from a join b on a.id = b.id, c", ["a", "b", "c"]],
  ["select 1 from (select 2) x, a", ["a"]],
  ["select 1 from (values (1, 2), (3, 4)) v, lateral (select 3 from a, b) x, c", ["a", "b", "c"]],
  ["select 1 from (a join b on true) join (c cross join d) on true", ["a", "b", "c", "d"]],
  ["select 1 from ((select 2 from a) union (select 3 from b)) x", ["a", "b"]],
  ["select f(a, b), array[c, d] from e group by g, h order by i, j", ["e"]],
  ["select 1 from a union select b, c from d order by e, f", ["a", "d"]],
  ["select o.from, 1 as from, 2. from orders o", ["orders"]],
  ["select 1 from Größe", ["größe"]],
  ["select 1 from values as v(i), (values)", ["values"]], // a table may have this name
  ["select 1 from (with a as (select 2 from b) select 3 from a) x join a on true", ["a", "b"]],
  ["select (table audit) from orders", undefined],
  ["select 1 from orders where exists (table audit)", undefined],
  ["select 1 from orders union table audit", undefined],
  ["select 1 from a.b.orders", undefined],
  ["select 1 from orders, rows from (f(1)) x", undefined],
  ["select 1 from orders join f(1) on true", undefined],
  ["select 1 from orders, (f(1)) x", undefined],
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
