import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { Cache } from "../../cache/mod.ts";
import {
  anyKey,
  anyTag,
  keyOf,
  labelOf,
  plain,
  rowName,
  tableTag,
  textOf,
  type Value,
  valueOf,
  valueTag,
  whereKey,
} from "../../changes/names.ts";

/** Any text that Postgres can hold. */
const text = fc.string({ unit: "binary" }).filter((value) => !value.includes("\0"));
const value: fc.Arbitrary<Value> = fc.oneof(
  text,
  fc.maxSafeInteger(),
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.boolean(),
);

describe("the names of the changes module", () => {
  it("are read as what they are where that is short and plain", () => {
    assertEquals(labelOf("orders"), "orders");
    assertEquals(labelOf("sales.orders"), "sales.orders");
    assertEquals(labelOf(["public", "orders"]), "orders");
    assertEquals(rowName("orders", keyOf([42])), "orders:42");
    assertEquals(rowName("members", keyOf([7n, "ada@example.com"])), "members:7,ada@example.com");
    assertEquals(valueTag("orders", valueOf("customer_id", 7)), "orders:customer_id=7");
    assertEquals(valueTag("orders", valueOf("customer_id", null)), "orders:customer_id");
    assertEquals(anyTag("orders"), "orders:any");
    assertEquals(tableTag("orders"), "orders:*");
    assertEquals(whereKey("orders", ["b=2", "a=1"], ""), "orders:?a=1&b=2");
    assertEquals(whereKey("orders", ["a=1"], "count"), "orders:?a=1&:count");
    assertEquals(anyKey("orders", "top sellers"), "orders:/top sellers");
  });

  it("hash what is long or has other characters", () => {
    assertEquals(plain(""), "#e3b0c44298fc1c149afbf4c8996fb92427ae41e4");
    assertEquals(plain("a".repeat(64)), "a".repeat(64));
    assertEquals(plain("a".repeat(65)).length, 41);
    assertEquals(plain("a,b")[0], "#");
    assertEquals(plain("#")[0], "#");
  });

  it("have no table whose name has a dot taken for another's", () => {
    assertNotEquals(labelOf(["public", "a.b"]), labelOf("a.b"));
    assertNotEquals(labelOf(["a.b", "c"]), labelOf(["a", "b.c"]));
  });

  it("differ where the values do", () => {
    const values = fc.array(value, { minLength: 1, maxLength: 4 });
    fc.assert(fc.property(values, values, (a, b) => {
      const same = a.length === b.length && a.every((each, i) => textOf(each) === `${b[i]}`);
      assertEquals(keyOf(a) === keyOf(b), same);
    }));
    fc.assert(fc.property(text, fc.option(value), text, fc.option(value), (a, x, b, y) => {
      const same = a === b && `${x}` === `${y}` && (x === null) === (y === null);
      assertEquals(valueOf(a, x) === valueOf(b, y), same);
    }));
  });

  it("are keys and tags that a cache takes, whatever they are made of", async () => {
    await using cache = new Cache();
    const values = fc.array(value, { minLength: 1, maxLength: 32 });
    await fc.assert(
      fc.asyncProperty(text, text, values, async (schema, table, parts) => {
        const label = labelOf([schema, table]);
        const named = parts.map((part) => valueOf(table, part));
        for (const key of [rowName(label, keyOf(parts)), whereKey(label, named, table)]) {
          assertEquals(await cache.get(key), undefined);
        }
        assertEquals(await cache.get(anyKey(label, table)), undefined);
        await cache.invalidateTags(
          ...[anyTag(label), tableTag(label)],
          ...named.slice(0, 8).map((each) => valueTag(label, each)),
        );
      }),
      { numRuns: 50 },
    );
  });

  it("have no row, value, query or tag taken for another kind", () => {
    fc.assert(fc.property(text, value, text, (column, part, name) => {
      const key = rowName("t", keyOf([part]));
      const tag = valueTag("t", valueOf(column, part));
      const keys = [key, whereKey("t", [valueOf(column, part)], name), anyKey("t", name)];
      assertEquals(new Set(keys).size, 3);
      assert(key !== tag && ![key, tag].includes(tableTag("t")));
    }));
  });

  it("refuse values that have no one text", () => {
    for (const bad of [1.5, NaN, 2 ** 53, "a\0b", "\ud800"]) {
      assertThrows(() => textOf(bad), TypeError);
    }
    assertEquals(textOf(-0), "0");
  });
});
