import {
  assert,
  assertEquals,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { Cache } from "../../cache/mod.ts";
import { keyOfCall } from "../../cache/wrapped.ts";

describe("Cache.wrap()", () => {
  it("calls the function once per arguments, until it is invalidated or refreshed", async () => {
    await using cache = new Cache();
    let calls = 0;
    const user = cache.wrap("user", (id: number) => Promise.resolve({ id, calls: ++calls }));
    assertEquals(await user(42), { id: 42, calls: 1 });
    assertEquals(await user(42), { id: 42, calls: 1 });
    assertEquals((await user.lookup(42)).source, "memory");
    assertEquals((await user(43))?.calls, 2);
    assertEquals((await user.refresh(42)).value()?.calls, 3);
    assertEquals((await user(42))?.calls, 3);
    assertEquals(await user.invalidate(42), "applied");
    assertEquals((await user(42))?.calls, 4);
    assertEquals((await user(43))?.calls, 2);
    assertEquals(user.keyOf(42), "user:42");
  });

  it("answers undefined for what does not exist, and passes errors on", async () => {
    await using cache = new Cache();
    const error = new Error("no database");
    const row = cache.wrap(
      "row",
      (id: number) => id === 0 ? Promise.reject(error) : Promise.resolve(null),
    );
    assertEquals(await row(1), undefined);
    assert(await assertRejects(() => row(0)) === error);
  });
});

describe("Cache.wrap(), for arguments without a form", () => {
  it("rejects by every way to call it, and throws by none", async () => {
    await using cache = new Cache();
    const size = cache.wrap("size", (map: Map<string, number>) => Promise.resolve(map.size));
    for (const call of [size, size.lookup, size.refresh, size.invalidate]) {
      const answer: Promise<unknown> = call(new Map());
      await assertRejects(() => answer, TypeError, "a Map has no stable form");
    }
  });
});

describe("Cache.wrap(), for names", () => {
  it("takes those that leave room for arguments, and refuses longer ones at once", async () => {
    await using cache = new Cache();
    const echo = (text: string) => Promise.resolve(text);
    const text = "x".repeat(500);
    assertEquals(await cache.wrap("n".repeat(176), echo)(text), text);
    assertThrows(() => cache.wrap("n".repeat(177), echo), TypeError, "a name of 177 characters");
  });
});

describe("keyOfCall()", () => {
  it("keeps numbers and short words, and hashes the rest", () => {
    assertEquals(keyOfCall("user", [42, "Ada"]), "user:42:Ada");
    assertEquals(keyOfCall("now", []), "now");
    assertEquals(keyOfCall("page", [1, undefined]), keyOfCall("page", [1]));
    assertMatch(keyOfCall("search", ["a b"]), /^search:~[\w-]{22}$/);
    assertEquals(
      keyOfCall("x", [{ a: 1, b: [2] }]),
      keyOfCall("x", [{ b: [2], a: 1, c: undefined }]),
    );
  });

  it("gives different arguments different keys, whatever they look like", () => {
    const arguments_ = [
      [1],
      ["1"],
      [1n],
      [true],
      ["true"],
      [null],
      ["null"],
      [[1]],
      [{}],
      [[]],
      [-0],
      [0],
      [NaN],
      [new Date(0)],
      ["a", "b"],
      ["a:b"],
      [["a", "b"]],
      [undefined, 1],
      [{ a: 1 }],
      [{ a: "1" }],
      ["x".repeat(300)],
      ["x".repeat(301)],
      ["~"],
      [""],
    ];
    const keys = arguments_.map((args) => keyOfCall("f", args));
    assertEquals(new Set(keys).size, keys.length);
    fc.assert(fc.property(fc.jsonValue(), fc.jsonValue(), (a, b) => {
      if (JSON.stringify(a) === JSON.stringify(b)) return;
      const [one, other] = [keyOfCall("f", [a]), keyOfCall("f", [b])];
      assert(one.length <= 200);
      if (typeof a !== "object" || typeof b !== "object") assertNotEquals(one, other);
    }));
  });

  it("refuses an argument that contains itself, but not one that contains another twice", () => {
    const twice = { a: 1 };
    keyOfCall("f", [[twice, { twice }, twice]]);
    const circle: Record<string, unknown> = {};
    circle.inside = [circle];
    assertThrows(() => keyOfCall("f", [circle]), TypeError, "argument 1 of f: it contains itself");
  });

  it("refuses an argument without a stable form, and names it", () => {
    const noForm = [() => {}, Symbol("s"), new Map(), new (class Point {})(), [new Set()]];
    for (const arg of noForm) {
      const error = assertThrows(() => keyOfCall("user", [1, arg]), TypeError);
      assertMatch(
        error.message,
        /^Cannot make a key of argument 2 of user: a \w+ has no stable form/,
      );
    }
  });
});
