import { assert, assertAlmostEquals, assertEquals, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { seededRandom } from "../support/fake_runtime.ts";
import {
  decodeEntry,
  earlyRefreshGapMs,
  encodeEntry,
  type Entry,
  entryMark,
  FORMAT,
  jitteredTtlMs,
  storedMark,
} from "../../cache/entry.ts";

const NEVER = Infinity;
const ALWAYS = 0;

const timeMs = fc.double({ min: 0, max: 1e15, noNaN: true });
const wellFormed = (maxLength: number) => fc.string({ unit: "binary", maxLength });
const entries: fc.Arbitrary<Entry> = fc.record({
  text: fc.option(fc.json().map((json) => json.toWellFormed())),
  loadedAtMs: timeMs,
  freshUntilMs: timeMs,
  staleUntilMs: timeMs,
  costMs: fc.float({ min: 0, max: 2 ** 20, noNaN: true }),
  tags: fc.array(fc.record({ name: wellFormed(200), version: wellFormed(50) }), { maxLength: 17 }),
});

const entry: Entry = {
  text: JSON.stringify({ name: "Ada", bio: "lorem ipsum ".repeat(200) }),
  loadedAtMs: 1,
  freshUntilMs: 2,
  staleUntilMs: 3,
  costMs: 4,
  tags: [{ name: "*", version: "r" }, { name: "標".repeat(200), version: "v1" }],
};

/** `entry` in bytes, with some of them replaced. */
function damaged(changes: Readonly<Record<number, number>>): Uint8Array {
  const bytes = Uint8Array.from(encodeEntry(entry, ALWAYS));
  for (const [at, byte] of Object.entries(changes)) bytes[Number(at)] = byte;
  return bytes;
}

describe("encodeEntry() and decodeEntry()", () => {
  it("answer any entry as it was written, compressed or not", () => {
    fc.assert(fc.property(entries, fc.constantFrom(ALWAYS, NEVER), (written, compressBytesMin) => {
      assertEquals(decodeEntry(encodeEntry(written, compressBytesMin)), written);
    }));
  });

  it("answer short and long texts of any alphabet, and tags", () => {
    for (const letter of ["a", "é", "€", "😀"]) {
      for (const length of [0, 2_047, 2_048, 2_049, 40_000]) {
        const written = {
          ...entry,
          text: letter.repeat(length / letter.length),
          tags: [{ name: letter.repeat(40), version: letter }],
        };
        for (const compressBytesMin of [ALWAYS, 3_000, NEVER]) {
          assertEquals(decodeEntry(encodeEntry(written, compressBytesMin)), written);
        }
      }
    }
  });

  it("read from the middle of a larger buffer", () => {
    const bytes = encodeEntry(entry, NEVER);
    const larger = new Uint8Array(bytes.length + 20);
    larger.set(bytes, 7);
    assertEquals(decodeEntry(larger.subarray(7, 7 + bytes.length)), entry);
  });

  it("refuse what is cut short at any byte, and what runs on", () => {
    for (const compressBytesMin of [ALWAYS, NEVER]) {
      const bytes = encodeEntry(entry, compressBytesMin);
      for (let length = 0; length < bytes.length; length++) {
        assertEquals(decodeEntry(bytes.subarray(0, length)), "truncated", `${length} bytes`);
      }
      assertEquals(decodeEntry(new Uint8Array([...bytes, 0])), "truncated");
    }
  });

  it("take no garbage for an entry, and never throw", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      assertEquals(typeof decodeEntry(bytes), "string");
      bytes[0] = FORMAT;
      decodeEntry(bytes);
    }));
    const bytes = encodeEntry(entry, ALWAYS);
    const at = fc.nat(bytes.length - 1);
    fc.assert(
      fc.property(at, fc.nat(255), (at, byte) => void decodeEntry(damaged({ [at]: byte }))),
    );
  });

  it("say why they refuse: a newer format, an unknown codec, impossible times or tags", () => {
    assertEquals(decodeEntry(damaged({ 0: FORMAT + 1 })), `format ${FORMAT + 1}`);
    assertEquals(decodeEntry(damaged({ 1: 7 })), "codec 7");
    assertEquals(decodeEntry(damaged({ 8: 0xf0, 9: 0x7f })), "times");
    assertEquals(decodeEntry(damaged({ 30: 18 })), "too many tags");
  });

  it("refuse a compressed payload that is damaged", () => {
    const bytes = encodeEntry({ ...entry, tags: [] }, ALWAYS);
    const zeroed = Uint8Array.from(bytes);
    zeroed.fill(0, 35, 45);
    assertEquals(decodeEntry(zeroed), "payload");
  });

  it("refuse a compressed payload that inflates to more than 64 MiB", () => {
    const text = " ".repeat(64 * 1024 * 1024);
    const read = (text: string) => decodeEntry(encodeEntry({ ...entry, text }, ALWAYS));
    assert(typeof read(text) !== "string");
    assertEquals(read(`${text} `), "payload");
  });

  it("compress payloads from the threshold on, where it pays", () => {
    const size = entry.text?.length ?? 0;
    const plain = encodeEntry(entry, NEVER).length;
    assertEquals(encodeEntry(entry, size + 1).length, plain);
    assertLess(encodeEntry(entry, size).length, plain / 2);
    const short = { ...entry, text: "[1]" };
    assertEquals(encodeEntry(short, ALWAYS).length, encodeEntry(short, NEVER).length);
  });

  it("keep a negative entry apart from null in JSON", () => {
    const negative = decodeEntry(encodeEntry({ ...entry, text: null }, ALWAYS));
    assert(typeof negative !== "string" && negative.text === null);
    const nothing = decodeEntry(encodeEntry({ ...entry, text: "null" }, ALWAYS));
    assert(typeof nothing !== "string" && nothing.text === "null");
  });
});

describe("storedMark()", () => {
  it("is what entryMark() makes of the entry, and changes with each load", () => {
    const stored = encodeEntry(entry, ALWAYS);
    assertEquals([...storedMark(stored)], [...entryMark(entry)]);
    const later = { ...entry, loadedAtMs: 2 };
    assert([...entryMark(later)].join() !== [...entryMark(entry)].join());
  });
});

const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

describe("jitteredTtlMs()", () => {
  it("stays within the ratio, and is at least 1 ms", () => {
    const ratio = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), ratio, chance, (ttlMs, ratio, random) => {
        const jittered = jitteredTtlMs(ttlMs, ratio, random);
        assert(jittered >= 1 && Number.isInteger(jittered));
        assert(
          jittered >= Math.floor(ttlMs * (1 - ratio)) && jittered <= Math.ceil(ttlMs * (1 + ratio)),
        );
      }),
    );
  });

  it("is the TTL itself without jitter, and on average with it", () => {
    const random = seededRandom(1);
    assertEquals(jitteredTtlMs(1_000, 0, random()), 1_000);
    let sum = 0;
    for (let i = 0; i < 10_000; i++) sum += jitteredTtlMs(1_000, 0.1, random());
    assertAlmostEquals(sum / 10_000, 1_000, 3);
  });
});

describe("earlyRefreshGapMs()", () => {
  it("is exponential with mean cost times beta", () => {
    const random = seededRandom(2);
    const gaps = Array.from({ length: 50_000 }, () => earlyRefreshGapMs(40, 2, random()));
    assertAlmostEquals(gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length, 80, 2);
    const above = gaps.filter((gap) => gap > 80).length / gaps.length;
    assertAlmostEquals(above, Math.exp(-1), 0.01);
  });

  it("is finite and not negative whatever is drawn", () => {
    fc.assert(fc.property(chance, (random) => {
      const gapMs = earlyRefreshGapMs(100, 1, random);
      assert(Number.isFinite(gapMs) && gapMs >= 0);
    }));
    assert(Number.isFinite(earlyRefreshGapMs(100, 1, 0)));
  });

  it("is 0 with beta 0 and for a load that cost nothing", () => {
    assertEquals(earlyRefreshGapMs(100, 0, 0.5), 0);
    assertAlmostEquals(earlyRefreshGapMs(0, 1, 0.5), 0);
  });
});
