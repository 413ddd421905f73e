import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Audit, type AuditOptions } from "../../changes/audit.ts";
import { type Clock, Lookup } from "../../cache/mod.ts";

/** A clock whose timers fire when the test says so. */
function manualClock(): { readonly clock: Clock; fire(): void; readonly waiting: () => number } {
  const timers = new Set<() => void>();
  return {
    clock: {
      now: () => 0,
      monotonicNow: () => 0,
      after: (_delayMs, run) => {
        timers.add(run);
        return { cancel: () => void timers.delete(run) };
      },
    },
    fire: () => {
      for (const run of [...timers]) {
        timers.delete(run);
        run();
      }
    },
    waiting: () => timers.size,
  };
}

/** Audits one key of which the database answers `rows` in turn, and the cache `cached`. */
async function auditOnce(rows: readonly unknown[], cached: string | null | undefined): Promise<{
  readonly audited: number;
  readonly stale: number;
  readonly reported: readonly string[];
}> {
  const { clock, fire } = manualClock();
  const answers = [...rows];
  const reported: string[] = [];
  const loaded = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  await using audit = new Audit({
    ratio: 1,
    propagationMs: 2_000,
    cache: {
      get: <T>() => {
        if (cached === undefined) done.resolve();
        return Promise.resolve(
          cached === undefined ? undefined : new Lookup<T>("redis", cached, 1, false),
        );
      },
    },
    load: () => {
      if (answers.length === rows.length) loaded.resolve();
      else done.resolve();
      return Promise.resolve(answers.shift());
    },
    onStale: (key) => reported.push(key),
    onError: (error) => reported.push(String(error)),
    clock,
    random: () => 0,
  });
  audit.note("user:1");
  await loaded.promise;
  await Promise.resolve();
  await Promise.resolve();
  fire();
  await done.promise;
  await audit[Symbol.asyncDispose]();
  return { ...audit.stats(), reported };
}

describe("Audit", () => {
  it("refuses options that are none", () => {
    for (const options of [{ rate: 1 }, { ratio: "1" }, { onStale: null }]) {
      assertThrows(() => new Audit(options as never), TypeError, "Cannot use");
    }
  });

  it("counts a value that the cache should not have had any more", async () => {
    const row = { id: 1 };
    assertEquals(await auditOnce([row, row], '{"id":2}'), {
      audited: 1,
      stale: 1,
      reported: ["user:1"],
    });
    assertEquals((await auditOnce([undefined, undefined], '{"id":2}')).stale, 1);
    assertEquals((await auditOnce([row, row], null)).stale, 1);
  });

  it("finds nothing wrong with equal values, and with a row that is known not to exist", async () => {
    const row = { id: 1 };
    assertEquals(await auditOnce([row, row], '{"id":1}'), { audited: 1, stale: 0, reported: [] });
    assertEquals((await auditOnce([undefined, undefined], null)).stale, 0);
  });

  it("judges nothing while the row is being written, or nothing is cached", async () => {
    assertEquals((await auditOnce([{ id: 1 }, { id: 2 }], '{"id":3}')).audited, 0);
    assertEquals((await auditOnce([{ id: 1 }, { id: 1 }], undefined)).audited, 0);
  });

  it("audits the share that it was told, and no more at once than its bound", async () => {
    const { clock, waiting } = manualClock();
    let dice = 0;
    const options: AuditOptions = {
      ratio: 0.5,
      propagationMs: 1,
      cache: { get: () => Promise.resolve(undefined) },
      load: () => Promise.resolve(1),
      onStale: () => {},
      onError: () => {},
      clock,
      random: () => dice++ % 2 === 0 ? 0.49 : 0.5,
    };
    await using audit = new Audit(options);
    for (let i = 0; i < 10; i++) audit.note("key");
    for (let i = 0; i < 10; i++) await Promise.resolve();
    assertEquals(waiting(), 5);
    for (let i = 0; i < 1_000; i++) audit.note("key");
    for (let i = 0; i < 10; i++) await Promise.resolve();
    assertEquals(waiting(), 16);
  });
});
