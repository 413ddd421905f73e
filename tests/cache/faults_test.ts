/**
 * A scripted session in which the n-th command fails, for every n, before it takes effect or after:
 * each answer is right, and nothing is left hanging.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache, type Lookup } from "../../cache/mod.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { type Fault, type FaultKind, FaultStore } from "../support/fault_store.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

const TTL_MS = 1_000;

/** One session of one cache, beside another that reads the same Redis without faults. */
class Session {
  readonly runtime = new FakeRuntime();
  readonly server = new SimulatedServer({ clock: this.runtime.clock });
  readonly store: FaultStore;
  readonly cache: Cache;
  readonly other: Cache;
  /** The database: versions by key. Absent keys don't exist. */
  readonly rows = new Map<string, number>([["a", 1], ["b", 1], ["page", 1]]);

  readonly #answerMsMax: number;

  constructor(fault: Fault | undefined, memoryBytes: number) {
    const { runtime, server } = this;
    // The command that would give a lease back may fail too; then its time has to run out.
    this.#answerMsMax = fault?.count === 1 ? 100 : 6_000;
    const options = { runtime, memoryBytes, ttlMs: TTL_MS, jitterRatio: 0, earlyRefreshBeta: 0 };
    this.store = new FaultStore(server.connect("a", { heartbeatMs: 250 }), fault);
    this.cache = new Cache({ ...options }, this.store);
    this.other = new Cache({ ...options }, server.connect("b", { heartbeatMs: 250 }));
  }

  load = (key: string) => (): Promise<number | undefined> => Promise.resolve(this.rows.get(key));

  /** Moves time on until `work` is done, and fails if it takes longer than a wait may. */
  async finish<T>(work: Promise<T>): Promise<T> {
    let done = false;
    const ended = work.finally(() => done = true);
    ended.catch(() => {
      // Reported by the await below.
    });
    const startedAtMs = this.runtime.clock.monotonicNow();
    await settle();
    while (!done) {
      await this.runtime.clock.advance(10);
      const tookMs = this.runtime.clock.monotonicNow() - startedAtMs;
      assert(tookMs <= this.#answerMsMax, `an answer took ${tookMs} ms`);
    }
    return await ended;
  }

  /** Reads through the faulty cache: only the row as it is now will do. */
  async expectRow(key: string, tags: readonly string[] = []): Promise<void> {
    const found = await this.finish(this.cache.getOrLoad(key, this.load(key), { tags }));
    assertEquals(found.value(), this.rows.get(key), `${key} from ${found.source}`);
    await settle();
  }

  write(key: string): number {
    const version = (this.rows.get(key) ?? 0) + 1;
    this.rows.set(key, version);
    return version;
  }

  /** What the script does, a dozen operations. */
  async play(): Promise<void> {
    const { cache, runtime } = this;
    const tags = ["users"];
    await settle();
    await this.expectRow("a");
    await this.expectRow("a"); // a hit, installed in memory
    await this.expectRow("page", tags);
    await this.expectRow("page", tags);
    await this.expectRow("none"); // negative

    this.write("a");
    await this.finish(cache.delete("a"));
    await this.expectRow("a");

    this.write("page");
    await this.finish(cache.invalidateTags("users"));
    await this.expectRow("page", tags);

    const version = this.write("b");
    await this.finish(cache.set("b", version));
    await this.expectRow("b");

    const keys = ["a", "b", "page", "none", "c"];
    const loadMissing = (missing: readonly string[]) =>
      Promise.resolve(
        new Map(missing.flatMap((key) => {
          const row = this.rows.get(key);
          return row === undefined ? [] : [[key, row] as const];
        })),
      );
    const batch: Lookup<number>[] = await this.finish(cache.getOrLoadMany(keys, loadMissing));
    assertEquals(batch.map((found) => found.value()), keys.map((key) => this.rows.get(key)));

    // Stale within grace, and refreshed behind the answer.
    await runtime.clock.advance(TTL_MS + 1);
    await this.expectRow("a");
    this.write("a");
    await this.finish(cache.delete("a"));
    await this.expectRow("a");

    for (const key of this.rows.keys()) this.write(key);
    await this.finish(cache.clear());
    for (const key of this.rows.keys()) await this.expectRow(key, key === "page" ? tags : []);
  }

  /** What must be true when all is over. */
  async end(): Promise<void> {
    const { runtime, server, cache, other } = this;
    await runtime.clock.advance(600); // debts are tried again at most this late
    assertEquals(cache.stats().pendingInvalidations, 0);
    for (const [key, row] of this.rows) {
      const found = await other.get<number>(key);
      const stored = found === undefined || found.stale ? undefined : found.value();
      assert(stored === undefined || stored === row, `another instance reads ${key} ${stored}`);
      const late = await this.finish(other.getOrLoad(key, this.load(key)));
      assert(late.stale || late.value() === row);
    }
    await this.finish(cache.close());
    await this.finish(other.close());
    assertEquals(runtime.clock.timers, 0);
    await runtime.clock.advance(5_000);
    assertEquals(server.leases(), []);
  }
}

async function play(fault: Fault | undefined, memoryBytes: number): Promise<FaultStore> {
  const session = new Session(fault, memoryBytes);
  await session.play();
  await session.end();
  return session.store;
}

const tiers = { "both tiers": 64 * 1024, "Redis alone": 0 };

for (const [name, memoryBytes] of Object.entries(tiers)) {
  describe(`Cache on ${name}, when a command fails`, () => {
    for (const kind of ["before", "after"] as const satisfies readonly FaultKind[]) {
      for (const count of [1, 3]) {
        it(`answers right whichever ${count} in a row fail ${kind} taking effect`, async () => {
          const { calls } = await play(undefined, memoryBytes);
          assert(calls > 25, `${calls} calls`);
          const failed = new Set<string>();
          for (let nth = 0; nth < calls + 5; nth++) {
            try {
              const store = await play({ nth, kind, count }, memoryBytes);
              for (const command of store.failed) failed.add(command);
            } catch (error) {
              throw new Error(`with call ${nth} failed ${kind} taking effect`, { cause: error });
            }
          }
          const session = [
            "get",
            "acquire",
            "fill",
            "set",
            "invalidate",
            "writeTags",
            "createTags",
          ];
          for (const command of session) assert(failed.has(command), `${command} never failed`);
        });
      }
    }
  });
}
