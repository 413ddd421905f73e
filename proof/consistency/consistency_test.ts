import { assert, assertEquals, assertGreater, assertLessOrEqual, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { breakTree, MUTATIONS } from "./broken_tree.ts";
import { type AcknowledgedWrite, type AnsweredRead, Checker } from "./checker.ts";
import { AGREEMENT_MS_MAX, render, runConsistency } from "./run.ts";

const write: AcknowledgedWrite = {
  key: 1,
  version: 2,
  via: "api",
  instance: "0.0",
  startMs: 90,
  endMs: 100,
};
const read: AnsweredRead = {
  key: 1,
  version: 1,
  path: "redis",
  instance: "1.0",
  startMs: 100,
  endMs: 110,
};

function violationsOf(writes: readonly AcknowledgedWrite[], one: AnsweredRead): number {
  const checker = new Checker(1_000);
  for (const each of writes) checker.write(each);
  checker.read(one);
  return checker.violationsCount;
}

describe("Checker", () => {
  it("forbids an older version from Redis or a load, on any instance", () => {
    assertEquals(violationsOf([write], read), 1);
    assertEquals(violationsOf([write], { ...read, path: "database" }), 1);
    assertEquals(violationsOf([write], { ...read, version: 2 }), 0);
  });

  it("lets a read that began before the acknowledgement see either version", () => {
    assertEquals(violationsOf([write], { ...read, startMs: 99 }), 0);
  });

  it("lets another instance's memory lag by the memory lease, and its own not at all", () => {
    const memory: AnsweredRead = { ...read, path: "memory" };
    assertEquals(violationsOf([write], { ...memory, startMs: 1_099 }), 0);
    assertEquals(violationsOf([write], { ...memory, startMs: 1_100 }), 1);
    assertEquals(violationsOf([write], { ...memory, instance: "0.0" }), 1);
    assertEquals(violationsOf([write], { ...memory, instance: "0.1" }), 0);
  });

  it("holds the instance of a pending write to it, and no other", () => {
    const pending: AcknowledgedWrite = { ...write, via: "pending" };
    assertEquals(violationsOf([pending], { ...read, startMs: 9_999 }), 0);
    assertEquals(violationsOf([pending], { ...read, instance: "0.0" }), 1);
  });

  it("finds the write that was missed behind later ones that may be", () => {
    const later: AcknowledgedWrite = { ...write, version: 3, via: "sql", endMs: 101 };
    assertEquals(violationsOf([write, later], { ...read, startMs: 200 }), 1);
    assertEquals(violationsOf([write, later], { ...read, startMs: 200, version: 2 }), 0);
  });
});

describe("the service under faults", { sanitizeOps: false, sanitizeResources: false }, () => {
  it("answers nothing older than the contract allows, and loses no write", async () => {
    const report = await runConsistency({ seconds: 20, seed: 20_130_402 });
    const text = render(report);
    assertEquals(report.violations, [], text);
    assertEquals(report.lost, [], text);
    assertLessOrEqual(report.agreedAfterMs, AGREEMENT_MS_MAX, text);
    assertGreater(report.availability.read.answered, 100, text);
    assertGreater(report.availability.write.answered, 10, text);
  });

  it("is caught when a fill needs no lease", async () => {
    await using tree = await breakTree(MUTATIONS.lease);
    const report = await runConsistency({ ...calm, sourceRoot: tree.root });
    assertGreater(report.violationsCount, 0, render(report));
  });

  it("is caught when the feed is ignored", async () => {
    await using tree = await breakTree(MUTATIONS.feed);
    const report = await runConsistency({ ...lasting, sourceRoot: tree.root });
    assert(report.violations.some(({ read: { path } }) => path === "memory"), render(report));
  });

  it("is caught when nobody relays the outbox", async () => {
    await using tree = await breakTree(MUTATIONS.relay);
    const report = await runConsistency({ ...lasting, seconds: 2, sourceRoot: tree.root });
    assertGreater(report.agreedAfterMs, AGREEMENT_MS_MAX, render(report));
  });

  it("cannot be broken by a mutation that no longer fits the source", async () => {
    await assertRejects(
      () => breakTree({ file: "main.ts", from: "not there", to: "" }),
      Error,
      "Cannot break main.ts",
    );
  });
});

/** No faults and few keys: each key is written often, and the cache is always in use. */
const calm = { seconds: 10, seed: 1, faults: false, keysCount: 4 } as const;

/**
 * Many keys that live long, and relays that hardly ever look: a write through one instance changes another's
 * memory only through the feed.
 */
const lasting = {
  ...calm,
  keysCount: 200,
  env: { CACHE_TTL_MS: "60000", CHANGES_LISTEN: "off", CHANGES_POLL_MS: "60000" },
} as const;
