import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Coherence } from "../../cache/coherence.ts";
import { FakeClock } from "../support/fake_runtime.ts";

describe("Coherence, the memory lease", () => {
  it("trusts memory from the first sign of life until the lease after the question", async () => {
    const clock = new FakeClock();
    const coherence = new Coherence(clock, 1_000);
    assert(!coherence.trusted());
    coherence.open();
    assert(!coherence.trusted());
    await clock.advance(400);
    coherence.alive(100); // asked at 100, answered at 400
    assert(coherence.trusted());
    assertEquals(coherence.trustedUntilMs, 1_100);
    await clock.advance(699);
    assert(coherence.trusted());
    await clock.advance(1);
    assert(!coherence.trusted());
  });

  it("trusts nothing from the moment the feed is lost, late signs of life included", () => {
    const clock = new FakeClock();
    const coherence = new Coherence(clock, 1_000);
    coherence.open();
    coherence.alive(0);
    coherence.close();
    assert(!coherence.trusted());
    coherence.alive(0);
    assert(!coherence.trusted());
  });

  it("proved() waits for a sign of life that was asked for later, or for the end of trust", async () => {
    const clock = new FakeClock();
    const coherence = new Coherence(clock, 1_000);
    await coherence.proved(); // nothing is trusted, so nothing needs a proof
    coherence.open();
    await clock.advance(10);
    let proofs = 0;
    const proofOf = () => coherence.proved().then(() => void proofs++);
    const first = proofOf();
    coherence.alive(9);
    await clock.advance(1);
    assertEquals(proofs, 0);
    coherence.alive(10);
    await first;
    const second = proofOf();
    await clock.advance(1);
    assertEquals(proofs, 1);
    coherence.close();
    await second;
  });

  it("does not notice the wall clock", () => {
    const clock = new FakeClock();
    const coherence = new Coherence(clock, 1_000);
    coherence.open();
    coherence.alive(0);
    for (const hourMs of [3_600_000, -7_200_000]) {
      clock.stepWall(hourMs);
      assert(coherence.trusted());
    }
  });

  it("trusts memory for ever where memory is the store", async () => {
    const clock = new FakeClock();
    const coherence = new Coherence(clock, Infinity);
    await clock.advance(1e12);
    assert(coherence.trusted());
  });
});

describe("Coherence, trust in the store", () => {
  it("is another one after every doubt, so that no answer counts that was asked for before", () => {
    const coherence = new Coherence(new FakeClock(), 1_000);
    const doubts = [
      [() => coherence.notePending(), () => coherence.noteNonePending()],
      [() => coherence.storeFellBehind(), () => coherence.storeCaughtUp()],
    ] as const;
    for (const [begin, end] of doubts) {
      const before = coherence.storeTrust();
      assert(before !== undefined);
      begin();
      assertEquals(coherence.storeTrust(), undefined);
      end();
      assertNotEquals(coherence.storeTrust(), before);
      assertNotEquals(coherence.storeTrust(), undefined);
    }
  });
});

describe("Coherence, the install guard", () => {
  it("changes a key's epoch when it is bumped, and leaves others", () => {
    const coherence = new Coherence(new FakeClock(), 1_000);
    const [a, b] = [coherence.epoch("a"), coherence.epoch("b")];
    coherence.bump("a");
    assertNotEquals(coherence.epoch("a"), a);
    assertEquals(coherence.epoch("b"), b);
  });

  it("changes every epoch when all may have changed, or the feed opens or closes", () => {
    const coherence = new Coherence(new FakeClock(), 1_000);
    for (const change of ["bumpAll", "open", "close", "noteNonePending"] as const) {
      const before = coherence.epoch("a");
      coherence[change]();
      assertNotEquals(coherence.epoch("a"), before, change);
    }
  });

  it("never comes back to an epoch it left", () => {
    const coherence = new Coherence(new FakeClock(), 1_000);
    const seen = new Set([coherence.epoch("a")]);
    for (let i = 0; i < 10_000; i++) {
      if (i % 7 === 0) coherence.bumpAll();
      else coherence.bump("a");
      seen.add(coherence.epoch("a"));
    }
    assertEquals(seen.size, 10_001);
  });
});
