/**
 * The races of a cache in all orders: every command's effect, every reply, every feed message and both ends of
 * every load are steps, and fast-check decides their order. Time stands still unless nothing else can happen,
 * and then moves on to the next timer.
 */
import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import fc from "fast-check";
import { Cache, type CacheOptions, type Invalidation, type Lookup } from "../../cache/mod.ts";
import { type Fault, FaultStore } from "../../tests/support/fault_store.ts";
import { FakeRuntime, settle } from "../../tests/support/fake_runtime.ts";
import {
  type Late,
  SimulatedServer,
  type SimulatedStore,
} from "../../tests/support/simulated_store.ts";

const KEY = "user:1";
const TAG = "users";
/** A run with more steps than this counts as hung. */
const STEPS_MAX = 5_000;
/** About the length of the engine's longest chain of promises; a turn of the event loop is expensive. */
const MICROTASKS = 30;

type ReadKind = "getOrLoad" | "get" | "getOrLoadMany";
type WriteKind = "delete" | "invalidateTags" | "set" | "clear";

/** The events of one run. Instances are numbered. */
interface Story {
  /** Instances, in one memory-only process or around one Redis. */
  readonly instances: 1 | 2;
  readonly memoryOnly: boolean;
  /** True if the feed runs, so that memory may be trusted. */
  readonly feed: boolean;
  /** True if a value is cached, also in memory, before anything happens. */
  readonly warm: boolean;
  /** True if so many look-ups have missed that the lease is requested at once. */
  readonly blind: boolean;
  readonly readers: readonly { readonly on: number; readonly reads: readonly ReadKind[] }[];
  /** One after the other, all by instance 0. */
  readonly writes: readonly WriteKind[];
  /** True if the feed of instance 1 breaks and comes back meanwhile. */
  readonly feedBreaks: boolean;
  /** True if time passes the end of the fresh life meanwhile. */
  readonly timePasses: boolean;
  /** Number of steps that each actor waits before each operation, so that late ones are covered. */
  readonly pauses: readonly number[];
  /** Number of steps of a load: during a slow one, much else can happen. */
  readonly loadSteps: number;
  /** Failing commands of instance 0. */
  readonly fault: Fault | undefined;
  /** The command of instance 0 that it gives up, and that takes effect later. */
  readonly late: Late | undefined;
}

/** The row in the database: the version counts the writes. */
interface Row {
  readonly version: number;
}

interface Write {
  readonly version: number;
  readonly kind: WriteKind;
  readonly ackedAt: number;
  readonly pending: boolean;
}

interface Read {
  readonly on: number;
  readonly startedAt: number;
  readonly lookup: Lookup<Row> | undefined;
}

/** One run of a story. */
class Run {
  readonly #story: Story;
  readonly #scheduler: fc.Scheduler;
  readonly #runtime = new FakeRuntime();
  readonly #server: SimulatedServer;
  readonly #stores: SimulatedStore[] = [];
  readonly #caches: Cache[];
  readonly #writes: Write[] = [];
  readonly #reads: Read[] = [];
  #truth = 0;
  #ticks = 0;
  #paused = 0;
  #free = true;

  constructor(story: Story, scheduler: fc.Scheduler) {
    this.#story = story;
    this.#scheduler = scheduler;
    const gate = (step: string) => this.#gate(step);
    this.#server = new SimulatedServer({ clock: this.#runtime.clock, gate });
    this.#caches = Array.from({ length: story.instances }, (_, i) => this.#open(`i${i}`));
  }

  async play(): Promise<void> {
    await settle();
    if (this.#story.blind) await this.#miss();
    if (this.#story.warm) await this.#warmUp();
    this.#free = false;
    const work = [
      this.#writer(),
      ...this.#story.readers.map((reader) => this.#reader(reader.on, reader.reads)),
      ...(this.#story.feed && this.#story.feedBreaks ? [this.#breakFeed()] : []),
      ...(this.#story.timePasses ? [this.#passTime()] : []),
    ];
    await this.#drive(Promise.all(work));
    await this.#quiet();
    this.#check();
    this.#free = true;
    await this.#checkTiers();
    for (const cache of this.#caches) await this.#finish(cache.close());
    assert(this.#runtime.clock.timers === 0, `${this.#runtime.clock.timers} timers left`);
  }

  #open(name: string): Cache {
    const options: CacheOptions = {
      runtime: this.#runtime,
      ttlMs: 100_000,
      graceMs: 100_000,
      jitterRatio: 0,
      memoryLeaseMs: 1_000_000_000,
      memoryBytes: 64 * 1024,
    };
    if (this.#story.memoryOnly) return new Cache(options);
    const isFaulty = name === "i0";
    const { feed, late } = this.#story;
    const store = this.#server.connect(name, isFaulty ? { feed, late } : { feed });
    this.#stores.push(store);
    const faulty = isFaulty ? new FaultStore(store, this.#story.fault) : store;
    return new Cache(options, faulty);
  }

  /** A step: waits until the scheduler chooses it. */
  async #gate(step: string): Promise<void> {
    if (!this.#free) await this.#scheduler.schedule(Promise.resolve(), step);
  }

  async #pause(): Promise<void> {
    const { pauses } = this.#story;
    const steps = pauses[this.#paused++ % pauses.length] ?? 0;
    for (let step = 0; step < steps; step++) await this.#gate("pause");
  }

  async #load(): Promise<Row> {
    await this.#gate("SELECT");
    const version = this.#truth;
    for (let step = 0; step < this.#story.loadSteps; step++) await this.#gate("SELECT: reply");
    return { version };
  }

  async #miss(): Promise<void> {
    const nothing = () => Promise.resolve(undefined);
    for (const cache of this.#caches) {
      for (let n = 0; n < 30; n++) await this.#finish(cache.getOrLoad(`no:${n}`, nothing));
    }
  }

  async #warmUp(): Promise<void> {
    for (const cache of this.#caches) {
      // The first fills, the second installs in memory.
      await this.#finish(cache.getOrLoad(KEY, () => this.#load(), { tags: [TAG] }));
      await settle();
      await this.#finish(cache.getOrLoad(KEY, () => this.#load(), { tags: [TAG] }));
    }
  }

  async #reader(on: number, reads: readonly ReadKind[]): Promise<void> {
    const cache = this.#caches[on];
    assert(cache !== undefined);
    for (const kind of reads) {
      await this.#pause();
      await this.#gate(`i${on} ${kind} starts`);
      const startedAt = this.#ticks++;
      const lookup = await this.#read(cache, kind);
      this.#reads.push({ on, startedAt, lookup });
    }
  }

  async #read(cache: Cache, kind: ReadKind): Promise<Lookup<Row> | undefined> {
    const options = { tags: [TAG] };
    if (kind === "get") return await cache.get<Row>(KEY);
    if (kind === "getOrLoad") return await cache.getOrLoad<Row>(KEY, () => this.#load(), options);
    const batch = async (keys: readonly string[]) => {
      const row = await this.#load();
      return new Map(keys.map((key) => [key, row]));
    };
    const [lookup] = await cache.getOrLoadMany<Row>([KEY, "user:2"], batch, options);
    return lookup;
  }

  async #writer(): Promise<void> {
    const cache = this.#caches[0];
    assert(cache !== undefined);
    for (const kind of this.#story.writes) {
      await this.#pause();
      await this.#gate("UPDATE");
      const version = ++this.#truth;
      await this.#gate("UPDATE: reply");
      const pending = await this.#invalidate(cache, kind, version) === "pending";
      this.#writes.push({ version, kind, ackedAt: this.#ticks++, pending });
    }
  }

  #invalidate(cache: Cache, kind: WriteKind, version: number): Promise<Invalidation> {
    if (kind === "delete") return cache.delete(KEY);
    if (kind === "invalidateTags") return cache.invalidateTags(TAG);
    if (kind === "clear") return cache.clear();
    return cache.set(KEY, { version }, { tags: [TAG] });
  }

  async #breakFeed(): Promise<void> {
    const store = this.#stores[1];
    await this.#gate("i1 feed breaks");
    store?.silenceFeed();
    await this.#gate("i1 feed loss is noticed");
    store?.closeFeed("broken");
    await store?.openFeed();
  }

  async #passTime(): Promise<void> {
    await this.#gate("time passes");
    this.#runtime.clock.jump(100_001);
  }

  /** Takes steps until `work` is done. */
  async #drive(work: Promise<unknown>): Promise<void> {
    let done = false;
    const ended = work.finally(() => done = true);
    ended.catch(() => {
      // The await below reports it.
    });
    for (let steps = 0; !done; steps++) {
      assert(steps < STEPS_MAX, "the run hangs");
      if (!await this.#step() && !done) await this.#runtime.clock.advanceToNext();
    }
    await ended;
  }

  /** Delivers everything on its way, and applies pending invalidations. */
  async #quiet(): Promise<void> {
    for (let steps = 0;; steps++) {
      assert(steps < STEPS_MAX, "it never grows quiet");
      if (await this.#step()) continue;
      const isPending = this.#caches.some((cache) => cache.stats().pendingInvalidations > 0);
      if (!isPending && !this.#stores.some((store) => store.owes)) return;
      await this.#runtime.clock.advanceToNext();
    }
  }

  /** Takes one step, if one is waiting once everything that can run has run. */
  async #step(): Promise<boolean> {
    for (let turns = 0; turns < MICROTASKS; turns++) await Promise.resolve();
    if (this.#scheduler.count() === 0) await settle();
    if (this.#scheduler.count() === 0) return false;
    await this.#scheduler.waitOne();
    return true;
  }

  /** Awaits outside the story: steps are free, timers fire as needed. */
  async #finish<T>(work: Promise<T>): Promise<T> {
    await this.#drive(work);
    return await work;
  }

  /** Checks that no read that started after an acknowledged write got an older version. */
  #check(): void {
    for (const read of this.#reads) {
      const version = read.lookup?.value()?.version;
      if (version === undefined) continue;
      const { source } = read.lookup ?? {};
      for (const write of this.#writes) {
        if (write.ackedAt > read.startedAt || !this.#binds(write, read, source)) continue;
        assert(
          version >= write.version,
          `i${read.on} read version ${version} from ${source} after ${write.kind} of version ` +
            `${write.version} had been acknowledged`,
        );
      }
    }
  }

  /**
   * True if the contract requires the read to include the write: always on the same instance. On another, an
   * answer from memory may lag, and so may one that was checked with tag versions held in memory.
   */
  #binds(write: Write, read: Read, source: string | undefined): boolean {
    if (read.on === 0 || this.#story.memoryOnly) return true;
    if (write.pending) return false;
    const byKey = write.kind === "delete" || write.kind === "set";
    return source !== "memory" && (byKey || !this.#story.feed);
  }

  /** Checks that, when everything has been delivered, every tier is empty or equals the database. */
  async #checkTiers(): Promise<void> {
    const last = this.#story.memoryOnly ? this.#caches : [...this.#caches, this.#open("late")];
    for (const [i, cache] of last.entries()) {
      const found = await this.#finish(cache.get<Row>(KEY));
      const version = found?.value()?.version;
      assert(
        version === undefined || version === this.#truth,
        `when all was quiet i${i} had version ${version} in ${found?.source}, not ${this.#truth}`,
      );
    }
    if (!this.#story.memoryOnly) await last.at(-1)?.close();
  }
}

const reads = fc.array(
  fc.constantFrom<ReadKind>("getOrLoad", "getOrLoad", "get", "getOrLoadMany"),
  { minLength: 1, maxLength: 3 },
);
const writes = fc.array(
  fc.constantFrom<WriteKind>("delete", "invalidateTags", "set", "clear"),
  { minLength: 1, maxLength: 2 },
);

function stories(fixed: Partial<Story>): fc.Arbitrary<Story> {
  return fc.record({
    instances: fc.constant(fixed.instances ?? 1),
    memoryOnly: fc.constant(fixed.memoryOnly ?? false),
    feed: fc.boolean(),
    warm: fc.boolean(),
    blind: fc.constantFrom(false, false, false, true),
    readers: fc.tuple(reads, reads).map(([first, second]) => [
      { on: 0, reads: first },
      { on: (fixed.instances ?? 1) - 1, reads: second },
    ]),
    writes,
    feedBreaks: fixed.feedBreaks === true ? fc.boolean() : fc.constant(false),
    timePasses: fixed.timePasses === true ? fc.boolean() : fc.constant(false),
    pauses: fc.array(fc.constantFrom(0, 15, 30), { minLength: 8, maxLength: 8 }),
    loadSteps: fc.constantFrom(1, 50),
    fault: fixed.fault === undefined ? fc.constant(undefined) : fc.record({
      nth: fc.nat(25),
      count: fc.integer({ min: 1, max: 4 }),
      kind: fc.constantFrom("before" as const, "after" as const),
    }),
    late: fixed.late === undefined ? fc.constant(undefined) : fc.record({
      nth: fc.nat(12),
      ms: fc.constantFrom(60, 10_000),
    }),
  });
}

/** Fails with the seed and path that replay the run, and its steps in order. */
async function holds(fixed: Partial<Story>, numRuns: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(stories(fixed), fc.scheduler(), async (story, scheduler) => {
      await new Run(story, scheduler).play();
    }),
    { numRuns },
  );
}

describe("Cache, over interleavings of two readers and a writer", () => {
  it("never answers what an acknowledged write replaced, on one instance", async () => {
    await holds({ instances: 1 }, 1_000);
  });

  it("never answers what an acknowledged write replaced, in memory-only mode", async () => {
    await holds({ instances: 1, memoryOnly: true }, 500);
  });

  it("never answers from Redis or a load what was replaced on another instance", async () => {
    await holds({ instances: 2 }, 1_500);
  });

  it("holds nothing old after the feed broke, or when values grew stale meanwhile", async () => {
    await holds({ instances: 2, feedBreaks: true, timePasses: true }, 1_000);
  });

  it("never answers on the same instance what was replaced while Redis failed commands", async () => {
    await holds({ instances: 2, fault: { nth: 0, kind: "before" } }, 1_000);
  });

  it("holds nothing old once a command arrives that had been given up", async () => {
    await holds({ instances: 2, late: { nth: 0, ms: 0 } }, 1_000);
  });
});
