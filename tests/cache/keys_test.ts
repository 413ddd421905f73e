import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { assertKey, KEY_LENGTH_MAX, type KeyPart, Keyspace } from "../../cache/keys.ts";

function usable(key: string): boolean {
  try {
    assertKey(key);
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

describe("assertKey()", () => {
  it("takes any text but braces, control characters and half characters, up to the bound", () => {
    for (const key of ["a", "user:1", " ", "ä☃🂡", "x".repeat(KEY_LENGTH_MAX)]) assertKey(key);
    const bad = ["", "x".repeat(KEY_LENGTH_MAX + 1), "{", "}", "a\r\n", "\u0000", "\u007f"];
    for (const key of [...bad, "\ud83c", "a\udc00"]) {
      assertThrows(() => assertKey(key), TypeError, "Cannot use ");
    }
  });

  it("shows a key that is none", () => {
    const numbered: { readonly key: string } = JSON.parse('{ "key": 42 }');
    assertThrows(
      () => assertKey(numbered.key),
      TypeError,
      "Cannot use 42 as a key: a string",
    );
  });

  it("quotes no more of a bad key than a log line bears", () => {
    const error = assertThrows(() => assertKey("x".repeat(1_000_000)), TypeError);
    assertEquals(error.message.length < 200, true);
  });
});

describe("Keyspace", () => {
  const parts: readonly KeyPart[] = ["", ":tag", ":popular", ":caught-up", ":source"];

  it("takes apart what it made, for every usable key", () => {
    const keyspace = new Keyspace("la", 3);
    const keys = fc.string({ unit: "binary", minLength: 1, maxLength: 100 }).filter(usable);
    fc.assert(fc.property(keys, fc.constantFrom(...parts), (name, part) => {
      assertEquals(keyspace.parse(keyspace.of(name, part)), { name, part });
    }));
  });

  it("keeps all parts of an entry in one slot", () => {
    const keyspace = new Keyspace("la", 1);
    assertEquals(keyspace.of("user:42", ""), "la:1:{user:42}");
    assertEquals(keyspace.of("user:42", ":lease"), "la:1:lease:{user:42}");
  });

  it("does not follow leases, and all else", () => {
    const keyspace = new Keyspace("la", 1);
    for (const part of parts) assert(keyspace.of("a", part).startsWith(keyspace.followed), part);
    const lease = keyspace.of("a", ":lease");
    assertEquals([lease.startsWith(keyspace.followed), keyspace.parse(lease)], [false, undefined]);
  });

  it("knows nothing of keys of others", () => {
    const keyspace = new Keyspace("la", 1);
    for (const key of ["", "la:1:", "la:1:x", "la:1:x{y}", "la:11:{a}", "lb:1:{a}", "la:1:{a"]) {
      assertEquals(keyspace.parse(key), undefined, key);
    }
  });

  it("names the same key under the versions before and after", () => {
    assertEquals(new Keyspace("la", 2).ofNeighbours("a", ":tag"), ["la:1:{a}:tag", "la:3:{a}:tag"]);
  });

  it("refuses a prefix that could run into other keys", () => {
    for (const prefix of ["", "a:b", "a{b", "a b", "x".repeat(51), "é"]) {
      assertThrows(() => new Keyspace(prefix, 1), TypeError, "as a key prefix");
    }
  });
});
