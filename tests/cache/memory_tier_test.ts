import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Coherence } from "../../cache/coherence.ts";
import type { Entry, TagVersion } from "../../cache/entry.ts";
import { MemoryTier } from "../../cache/memory_tier.ts";
import { settingsOf } from "../../cache/options.ts";
import { Counters } from "../../cache/stats.ts";
import { HeldTags } from "../../cache/tags.ts";
import { FakeRuntime } from "../support/fake_runtime.ts";

/** A memory tier where memory is the store. */
function open(memoryBytes: number) {
  const runtime = new FakeRuntime();
  const coherence = new Coherence(runtime.clock, Infinity);
  const held = new HeldTags(coherence);
  const counters = new Counters();
  const settings = settingsOf({ memoryBytes });
  const memory = new MemoryTier({ runtime, coherence, held, counters, settings });
  const nowMs = runtime.clock.now();
  const hold = (key: string, text: string | null, tags: readonly TagVersion[] = []): void => {
    for (const { name, version } of tags) held.hold(name, version);
    const entry: Entry = {
      text,
      loadedAtMs: nowMs,
      freshUntilMs: nowMs + 1_000,
      staleUntilMs: nowMs + 2_000,
      costMs: 0,
      tags,
    };
    memory.install(key, entry, coherence.epoch(key));
  };
  return { runtime, coherence, held, counters, memory, hold };
}

describe("MemoryTier", () => {
  it("takes no room in advance for a limit that the machine does not have", () => {
    const { memory, hold } = open(1e12);
    hold("a", "1");
    assertEquals(memory.hit("a")?.lookup.value(), 1);
  });

  it("makes the answer of an entry once, and answers it until it is no longer fresh", async () => {
    const { memory, hold, runtime, counters } = open(64 * 1024);
    hold("a", "1");
    const found = memory.hit("a");
    assert(found !== undefined && memory.hit("a")?.answer === found.answer);
    assertEquals([found.lookup.source, found.lookup.stale, found.lookup.value()], [
      "memory",
      false,
      1,
    ]);
    await runtime.clock.advance(999);
    assert(memory.hit("a") !== undefined && memory.fresh("a") !== undefined);
    await runtime.clock.advance(1);
    assertEquals([memory.hit("a"), memory.fresh("a")], [undefined, undefined]);
    assertEquals([counters.memoryHits, counters.memoryMisses], [4, 1]);
    assert(memory.stored("a") !== null);
    await runtime.clock.advance(1_000);
    assertEquals(memory.stored("a"), null);
  });

  it("does not install an entry whose key changed since it was read", () => {
    const { memory, coherence, hold } = open(64 * 1024);
    hold("a", "1");
    const entry = memory.peek("a")?.entry;
    assert(entry !== undefined);
    const epoch = coherence.epoch("a");
    memory.drop(["a"]);
    memory.install("a", entry, epoch);
    assertEquals(memory.hit("a"), undefined);
  });

  it("stays within its bound of bytes, dropping what was used least recently", () => {
    const bytesMax = 100_000;
    const { memory, hold } = open(bytesMax);
    const text = JSON.stringify("x".repeat(1_000));
    for (let i = 0; i < 1_000; i++) {
      hold(`k${i}`, text);
      memory.hit("k0");
      assert(memory.bytes <= bytesMax);
    }
    assert(memory.hit("k0") !== undefined);
    assertEquals(memory.hit("k1"), undefined);
    assertGreater(memory.size, 40);
    assertEquals(memory.evictions, 1_000 - memory.size);
  });

  it("counts tags within its bound, each once, and lets them go with their last entry", () => {
    const bytesMax = 100_000;
    const { memory, hold, held } = open(bytesMax);
    const shared = { name: "shared".repeat(20), version: "v".repeat(50) };
    for (let i = 0; i < 1_000; i++) {
      hold(`k${i}`, "1", [shared, { name: `own:${i}`.padEnd(100, "x"), version: "v".repeat(50) }]);
      assert(memory.bytes <= bytesMax);
    }
    assertLess(memory.size, 120); // 160 entries without tags
    assertGreater(memory.size, 80); // the shared one is not counted for each
    assertGreater(memory.evictions, 800);
    memory.dropAll();
    assertEquals([held.bytes, memory.bytes], [0, 0]);
  });

  it("counts entries of a few bytes for what they really take", () => {
    const { memory, hold } = open(100_000);
    for (let i = 0; i < 10_000; i++) hold(`k${i}`, null);
    assertLess(memory.size, 200);
  });

  it("counts text beyond Latin-1 twice, as V8 keeps it", () => {
    const sizes = ["é", "☃"].map((character) => {
      const { memory, hold } = open(1_000_000);
      hold("a", character.repeat(10_000));
      return memory.bytes;
    });
    assertEquals((sizes[1] ?? 0) - (sizes[0] ?? 0), 10_000);
  });

  it("does not hold what is larger than all of it, nor what was there before, nor its tags", () => {
    const { memory, hold, held } = open(10_000);
    hold("a", "1", [{ name: "t", version: "v" }]);
    hold("b", "1");
    hold("a", "x".repeat(20_000), [{ name: "t", version: "v" }]);
    assertEquals(memory.hit("a"), undefined);
    assert(memory.hit("b") !== undefined);
    assertEquals(held.bytes, 0);
  });

  it("holds nothing with a bound of 0, and counts no misses", () => {
    const { memory, hold, counters } = open(0);
    hold("a", "1");
    assertEquals([memory.hit("a"), memory.fresh("a"), memory.size], [undefined, undefined, 0]);
    assertEquals(counters.memoryMisses, 0);
  });

  it("drop() and dropAll() are no evictions", () => {
    const { memory, hold } = open(10_000);
    for (const key of ["a", "b", "c"]) hold(key, "1");
    memory.drop(["a"]);
    assertEquals([memory.size, memory.hit("a")], [2, undefined]);
    memory.dropAll();
    assertEquals([memory.size, memory.bytes, memory.evictions], [0, 0, 0]);
  });
});
