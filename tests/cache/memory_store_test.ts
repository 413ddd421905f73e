import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Entry } from "../../cache/entry.ts";
import { MemoryStore } from "../../cache/memory_store.ts";

const timing = { offsetMs: -100, earlyGapMs: 5, tagEpoch: 0 };

function entryOf(text: string | null): Entry {
  return { text, loadedAtMs: 0, freshUntilMs: 1_000, staleUntilMs: 2_000, costMs: 1, tags: [] };
}

describe("MemoryStore", () => {
  it("places an entry on the monotonic clock, and makes its answer once", () => {
    const memory = new MemoryStore(64 * 1024);
    memory.set("a", entryOf("1"), timing);
    const held = memory.get("a");
    assert(held !== undefined);
    assertEquals([held.quietUntilMs, held.freshUntilMs, held.staleUntilMs], [895, 900, 1_900]);
    assertEquals([held.lookup.source, held.lookup.stale, held.lookup.value()], [
      "memory",
      false,
      1,
    ]);
    assert(memory.get("a")?.answer === held.answer);
  });

  it("stays within its bound of bytes, dropping what was used least recently", () => {
    const bytesMax = 100_000;
    const memory = new MemoryStore(bytesMax);
    const text = JSON.stringify("x".repeat(1_000));
    for (let i = 0; i < 1_000; i++) {
      memory.set(`k${i}`, entryOf(text), timing);
      memory.get("k0");
      assert(memory.bytes <= bytesMax);
    }
    assert(memory.get("k0") !== undefined);
    assertEquals(memory.get("k1"), undefined);
    assertGreater(memory.size, 40);
    assertEquals(memory.evictions, 1_000 - memory.size);
  });

  it("counts entries of a few bytes for what they really take", () => {
    const memory = new MemoryStore(100_000);
    for (let i = 0; i < 10_000; i++) memory.set(`k${i}`, entryOf(null), timing);
    assertLess(memory.size, 200);
  });

  it("counts text beyond Latin-1 twice, as V8 keeps it", () => {
    const sizes = ["é", "☃"].map((character) => {
      const memory = new MemoryStore(1_000_000);
      memory.set("a", entryOf(character.repeat(10_000)), timing);
      return memory.bytes;
    });
    assertEquals((sizes[1] ?? 0) - (sizes[0] ?? 0), 10_000);
  });

  it("does not hold what is larger than all of it, nor what was there before", () => {
    const memory = new MemoryStore(10_000);
    memory.set("a", entryOf("1"), timing);
    memory.set("b", entryOf("1"), timing);
    memory.set("a", entryOf("x".repeat(20_000)), timing);
    assertEquals(memory.get("a"), undefined);
    assert(memory.get("b") !== undefined);
  });

  it("delete() and clear() are no evictions", () => {
    const memory = new MemoryStore(10_000);
    for (const key of ["a", "b", "c"]) memory.set(key, entryOf("1"), timing);
    memory.delete("a");
    assertEquals([memory.size, memory.get("a")], [2, undefined]);
    memory.clear();
    assertEquals([memory.size, memory.bytes, memory.evictions], [0, 0, 0]);
  });
});
