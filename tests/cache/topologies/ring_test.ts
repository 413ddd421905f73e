import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Ring } from "../../../cache/topologies/ring.ts";

const KEYS = Array.from({ length: 100_000 }, (_, at) => `user:${at}`);

/** Several sets of names: what holds for one by luck does not hold for all. */
const RINGS: Readonly<Record<string, readonly string[]>> = {
  "addresses": ["10.0.0.1:6379/0", "10.0.0.2:6379/0", "10.0.0.3:6379/0", "10.0.0.4:6379/0"],
  "ports": ["127.0.0.1:7000/0", "127.0.0.1:7001/0", "127.0.0.1:7002/0", "127.0.0.1:7003/0"],
  "names": ["redis-a.example:6379/0", "b:6379/0", "cache3.example:6380/2", "[::4]:6379/0"],
};

/** The name that owns each key. */
function ownersOf(names: readonly string[]): string[] {
  const ring = new Ring(names);
  return KEYS.map((key) => names[ring.indexOf(key)] ?? "");
}

function assertEven(owners: readonly string[], names: readonly string[]): void {
  const even = owners.length / names.length;
  for (const name of names) {
    const count = owners.filter((owner) => owner === name).length;
    assert(Math.abs(count - even) <= even / 10, `${name} owns ${count} of ${owners.length}`);
  }
}

describe("Ring", () => {
  for (const [what, names] of Object.entries(RINGS)) {
    const three = names.slice(0, 3);
    const [fourth = ""] = names.slice(3);

    it(`spreads keys within 10 % of evenly over ${what}`, () => {
      for (const some of [names.slice(0, 2), three, names]) assertEven(ownersOf(some), some);
    });

    it(`moves a quarter of the keys to a fourth server, and none elsewhere (${what})`, () => {
      const before = ownersOf(three);
      const after = ownersOf(names);
      const moved = KEYS.flatMap((_, at) => before[at] === after[at] ? [] : [at]);
      assert(Math.abs(moved.length / KEYS.length - 0.25) <= 0.03, `${moved.length} keys moved`);
      assertEquals(moved.filter((at) => after[at] !== fourth).length, 0);
      // And in equal parts from those that had them.
      assertEven(moved.map((at) => before[at] ?? ""), three);
    });

    it(`moves the keys of a server that leaves, and no others (${what})`, () => {
      const before = ownersOf(names);
      const after = ownersOf(three);
      const moved = KEYS.filter((_, at) => before[at] !== fourth && before[at] !== after[at]);
      assertEquals(moved.length, 0);
      assertEven(after.filter((_, at) => before[at] === fourth), three);
    });
  }

  it("places a key alike in whatever order the servers are named", () => {
    const [names = []] = Object.values(RINGS);
    const reversed = ownersOf(names.toReversed());
    const elsewhere = ownersOf(names).filter((owner, at) => owner !== reversed[at]);
    assertEquals(elsewhere.length, 0);
  });

  it("takes any key, and one server", () => {
    const one = new Ring(["a"]);
    const two = new Ring(["a", "b"]);
    for (const key of ["", "x", "標".repeat(200), "user:1\u0000", "\ud800"]) {
      assertEquals(one.indexOf(key), 0);
      assert([0, 1].includes(two.indexOf(key)));
    }
    assertThrows(() => new Ring([]), RangeError, "there is no server");
  });
});
