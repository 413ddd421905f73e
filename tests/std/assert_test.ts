// Runs under both import maps: what holds for the stand-in must hold for the real package.
import {
  assert,
  assertAlmostEquals,
  assertEquals,
  assertFalse,
  assertGreater,
  AssertionError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  fail,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";

class Point {
  constructor(readonly x: number) {}
}
class OtherPoint {
  constructor(readonly x: number) {}
}

const cyclic: { self?: unknown; n: number } = { n: 1 };
cyclic.self = cyclic;

/** Pairs that are deeply equal, by what they show. */
const equalPairs: Record<string, [unknown, unknown]> = {
  "objects in another order": [{ a: 1, b: [2, { c: 3 }] }, { b: [2, { c: 3 }], a: 1 }],
  "zero and minus zero": [{ n: 0 }, { n: -0 }],
  "not a number": [[NaN], [NaN]],
  "an object without a prototype": [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
  "maps": [new Map([["a", { b: 1 }]]), new Map([["a", { b: 1 }]])],
  "sets": [new Set([1, 2]), new Set([2, 1])],
  "dates": [new Date(5), new Date(5)],
  "bytes": [new Uint8Array([1, 2]), new Uint8Array([1, 2])],
  "urls": [new URL("http://a/b"), new URL("http://a/b")],
  "regular expressions": [/a/g, /a/g],
  "cycles": [cyclic, cyclic],
  "instances": [new Point(1), new Point(1)],
};

/** Pairs that are not. */
const differentPairs: Record<string, [unknown, unknown]> = {
  "another value": [{ a: 1 }, { a: 2 }],
  "an absent and an undefined property": [{ a: undefined }, {}],
  "one property more": [{ a: 1, b: 2 }, { a: 1 }],
  "number and text": [1, "1"],
  "null and undefined": [null, undefined],
  "lengths": [[1, 2], [1]],
  "classes": [new Point(1), new OtherPoint(1)],
  "dates": [new Date(5), new Date(6)],
  "bytes": [new Uint8Array([1]), new Uint8Array([2])],
  "urls": [new URL("http://a/b"), new URL("http://a/c")],
  "a url and its text": [new URL("http://a/b"), "http://a/b"],
  "regular expressions": [/a/g, /a/i],
  "sets": [new Set([1]), new Set([2])],
};

/** Assertions that fail. */
const failures: Record<string, () => unknown> = {
  "assert()": () => assert(0),
  "assertFalse()": () => assertFalse(1),
  "fail()": () => fail("why"),
  "assertStrictEquals()": () => assertStrictEquals<unknown>({}, {}),
  "assertStrictEquals() on -0": () => assertStrictEquals(0, -0),
  "assertMatch()": () => assertMatch("abc", /x/),
  "assertStringIncludes()": () => assertStringIncludes("abc", "x"),
  "assertGreater()": () => assertGreater(1, 1),
  "assertLess()": () => assertLess(1, 1),
  "assertLessOrEqual()": () => assertLessOrEqual(2, 1),
  "assertAlmostEquals()": () => assertAlmostEquals(1, 1.1, 0.01),
  "assertAlmostEquals() by default": () => assertAlmostEquals(1, 1.001),
  "assertThrows() on a return": () => assertThrows(() => 1),
  "assertThrows() on another class": () => assertThrows(throwing(new Error("a")), TypeError),
  "assertThrows() on another text": () => assertThrows(throwing(new Error("a")), Error, "b"),
  "assertThrows() on what is no error": () => assertThrows(throwing("a"), Error),
};

/** Assertions that fail once their promise has settled. */
const rejections: Record<string, () => Promise<unknown>> = {
  "assertRejects() on an answer": () => assertRejects(() => Promise.resolve(1)),
  "assertRejects() on a synchronous throw": () => assertRejects(throwing(new Error("a"))),
  "assertRejects() on another class": () =>
    assertRejects(() => Promise.reject(new Error("a")), TypeError),
  "assertRejects() on another text": () =>
    assertRejects(() => Promise.reject(new Error("a")), Error, "b"),
};

describe("assertEquals()", () => {
  for (const [name, [actual, expected]] of Object.entries(equalPairs)) {
    it(`holds for ${name}`, () => {
      assertEquals(actual, expected);
      assertThrows(() => assertNotEquals(actual, expected), AssertionError);
    });
  }
  for (const [name, [actual, expected]] of Object.entries(differentPairs)) {
    it(`tells apart ${name}`, () => {
      assertThrows(() => assertEquals(actual, expected), AssertionError, "Values are not equal");
      assertNotEquals(actual, expected);
    });
  }
  it("puts the caller's words first", () => {
    assertThrows(() => assertEquals(1, 2, "why"), AssertionError, "Values are not equal: why");
  });
});

describe("assertions that do not hold", () => {
  for (const [name, run] of Object.entries(failures)) {
    it(`${name} throws`, () => {
      assertThrows(run, AssertionError);
    });
  }
  for (const [name, run] of Object.entries(rejections)) {
    it(`${name} rejects`, async () => {
      await assertRejects(run, AssertionError);
    });
  }
});

describe("assertions that hold", () => {
  it("say nothing", () => {
    assert(1);
    assertFalse(0);
    assertStrictEquals(NaN, NaN);
    assertMatch("abc", /b/);
    assertStringIncludes("abc", "b");
    assertGreater(2, 1);
    assertLess(1, 2);
    assertLessOrEqual(1, 1);
    assertAlmostEquals(1, 1.00000001);
  });

  it("assertThrows() and assertRejects() answer what was thrown", async () => {
    const error = new TypeError("because of this");
    assertStrictEquals(assertThrows(throwing(error), TypeError, "of this"), error);
    assertStrictEquals(await assertRejects(() => Promise.reject(error), TypeError, "of"), error);
    assertStrictEquals(assertThrows(throwing("text")), "text");
  });
});

function throwing(error: unknown): () => never {
  return () => {
    throw error;
  };
}
