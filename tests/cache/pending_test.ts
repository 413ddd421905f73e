import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Cache } from "../../cache/mod.ts";
import { Coherence } from "../../cache/coherence.ts";
import { PendingInvalidations } from "../../cache/pending.ts";
import type { Store } from "../../cache/store.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

/** What a {@linkcode PendingInvalidations} sends, and whether it is taken. */
class Recorder {
  readonly runtime = new FakeRuntime();
  readonly coherence = new Coherence(this.runtime.clock, Infinity);
  readonly sent: string[] = [];
  /** Called as a command is sent. */
  onSend: () => void = () => {};
  down = true;
  readonly pending: PendingInvalidations;

  constructor() {
    const inner = new SimulatedServer({ clock: this.runtime.clock }).connect("a");
    const take = (what: string): Promise<void> => {
      this.sent.push(what);
      this.onSend();
      return this.down ? Promise.reject(new Error("down")) : Promise.resolve();
    };
    const store: Store = Object.assign(inner, {
      invalidate: (keys: readonly string[]) => take(`keys ${keys.join()}`),
      writeTags: (names: readonly string[]) => take(`tags ${names.join()}`),
    });
    const { runtime, coherence } = this;
    let versions = 0;
    const newNonce = () => `v${versions++}`;
    this.pending = new PendingInvalidations(store, { runtime, coherence, newNonce });
  }
}

describe("PendingInvalidations", () => {
  it("tries once more when it is closed, and tells how much is lost", async () => {
    for (const down of [true, false]) {
      const recorder = new Recorder();
      recorder.pending.addKeys(["a", "b"]);
      recorder.pending.addTags(["t"]);
      recorder.down = down;
      assertEquals(await recorder.pending.close(), down ? 3 : 0);
      assertEquals(recorder.sent, down ? ["keys a,b"] : ["keys a,b", "tags t"]);
      assertEquals(recorder.runtime.clock.timers, 0);
    }
  });

  it("tries what is owed again until it is taken, less and less often", async () => {
    const { pending, runtime, sent, ...recorder } = new Recorder();
    void recorder;
    pending.addKeys(["a", "b"]);
    pending.addTags(["t"]);
    await runtime.clock.advance(49);
    assertEquals(sent, []);
    await runtime.clock.advance(1);
    assertEquals(sent, ["keys a,b"]);
    await runtime.clock.advance(99);
    assertEquals(sent.length, 1);
    await runtime.clock.advance(1);
    assertEquals(sent.length, 2);
    assertEquals(pending.size, 3);
    await pending.close();
  });

  it("owes nothing and sets no timer once it was taken", async () => {
    const recorder = new Recorder();
    recorder.pending.addKeys(["a"]);
    recorder.pending.addTags(["t"]);
    recorder.down = false;
    await recorder.runtime.clock.advance(50);
    assertEquals(recorder.sent, ["keys a", "tags t"]);
    assertEquals(recorder.pending.size, 0);
    assertEquals(recorder.runtime.clock.timers, 0);
    await recorder.pending.close();
  });

  it("counts what is under way as owed, and pays again what is owed anew meanwhile", async () => {
    const recorder = new Recorder();
    const { pending, runtime, sent } = recorder;
    recorder.down = false;
    recorder.onSend = () => {
      assertEquals(pending.size, 1);
      recorder.onSend = () => {};
      pending.addKeys(["a"]); // written again while the first delete is on its way
    };
    pending.addKeys(["a"]);
    await runtime.clock.advance(50);
    assertEquals(sent, ["keys a", "keys a"]);
    assertEquals(pending.size, 0);
    await pending.close();
  });

  it("owes a clear instead of more keys than it can hold", async () => {
    const recorder = new Recorder();
    const { pending, runtime, sent } = recorder;
    pending.addKeys(Array.from({ length: 10_001 }, (_, i) => `k${i}`));
    assertEquals(pending.size, 1);
    recorder.down = false;
    await runtime.clock.advance(50);
    assertEquals(sent, ["tags *"]);
    await pending.close();
  });

  it("owes a clear instead of more tags than it can hold", async () => {
    const recorder = new Recorder();
    recorder.pending.addTags(Array.from({ length: 10_001 }, (_, i) => `t${i}`));
    recorder.down = false;
    await recorder.runtime.clock.advance(50);
    assertEquals(recorder.sent, ["tags *"]);
    await recorder.pending.close();
  });

  it("tries no more once it is closed", async () => {
    const { pending, runtime, sent } = new Recorder();
    pending.addKeys(["a"]);
    await pending.close();
    pending.addKeys(["b"]);
    await runtime.clock.advance(10_000);
    assertEquals([sent, runtime.clock.timers], [["keys a"], 0]);
  });

  it("lets nothing be kept in memory while it owes, nor what was read meanwhile", async () => {
    const recorder = new Recorder();
    const { coherence, pending } = recorder;
    pending.addKeys(["a"]);
    assert(!coherence.mayKeep());
    assert(coherence.trusted());
    const epoch = coherence.epoch("a");
    recorder.down = false;
    await recorder.runtime.clock.advance(50);
    assert(coherence.mayKeep());
    assert(coherence.epoch("a") !== epoch);
    await pending.close();
  });
});

/** A step that a test holds back until it lets go. */
class Held {
  readonly #pattern: RegExp;
  readonly #reached = Promise.withResolvers<void>();
  readonly #release = Promise.withResolvers<void>();

  constructor(pattern: RegExp) {
    this.#pattern = pattern;
  }

  /** Resolves when the step is waiting. */
  get reached(): Promise<void> {
    return this.#reached.promise;
  }

  gate = async (step: string): Promise<void> => {
    if (!this.#pattern.test(step)) return;
    this.#reached.resolve();
    await this.#release.promise;
  };

  letGo(): void {
    this.#release.resolve();
  }
}

describe("Cache, while an invalidation is owed", () => {
  const options = { tags: ["users"] };

  /** A cache with `a` in memory under the tag, whose tag and key deletes fail from now on. */
  async function openWarm() {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    const store = server.connect("a");
    const faulty: Store = Object.assign(store, {
      writeTags: () => Promise.reject(new Error("down")),
      invalidate: () => Promise.reject(new Error("down")),
    });
    const cache = new Cache({ runtime, memoryBytes: 64 * 1024 }, faulty);
    let row = 1;
    const load = () => Promise.resolve(row);
    await settle();
    await cache.getOrLoad("a", load, options);
    await settle();
    await cache.getOrLoad("a", load, options);
    assertEquals((await cache.getOrLoad("a", load, options)).source, "memory");
    return { cache, server, runtime, load, write: () => void row++ };
  }

  it("reads nothing from Redis, and again once it was paid", async () => {
    const runtime = new FakeRuntime();
    const store = new SimulatedServer({ clock: runtime.clock }).connect("a");
    const invalidate = store.invalidate.bind(store);
    let down = true;
    const faulty: Store = Object.assign(store, {
      invalidate: (keys: readonly string[]) =>
        down ? Promise.reject(new Error("down")) : invalidate(keys),
    });
    await using cache = new Cache({ runtime, memoryBytes: 64 * 1024 }, faulty);
    await settle();
    await cache.getOrLoad("a", () => Promise.resolve(1));
    await settle();
    assertEquals(await cache.delete("a"), "pending");
    assertEquals(await cache.get("a"), undefined);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(2))).value(), 2);
    assertEquals(cache.stats().pendingInvalidations, 1);
    down = false;
    await runtime.clock.advance(50);
    assertEquals(cache.stats().pendingInvalidations, 0);
    await cache.getOrLoad("a", () => Promise.resolve(3));
    await settle();
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve(4))).source, "redis");
  });

  it("believes no tag version that Redis names meanwhile", async () => {
    // 1. reader: GET b is sent
    // 2. writer: invalidateTags(users) fails, is owed, and is acknowledged as pending
    // 3. reader: misses b, and asks for the version of users: Redis names the old one
    // 4. reader: hits a in memory, whose tag has the version that Redis named
    const { cache, server, load, write } = await openWarm();
    const held = new Held(/ get b: reply/);
    server.gate = held.gate;
    const slow = cache.getOrLoad("b", load, options);
    await held.reached;
    write();
    assertEquals(await cache.invalidateTags("users"), "pending");
    held.letGo();
    await slow;
    assertEquals((await cache.getOrLoad("a", load, options)).value(), 2);
    await cache.close();
  });

  it("believes no tag version that a write asks for meanwhile", async () => {
    // 1. writer: invalidateTags(users) fails, and is owed
    // 2. writer: set(b) under the same tag asks for its version: Redis names the old one
    // 3. reader: hits a in memory, whose tag has the version that Redis named
    const { cache, load, write } = await openWarm();
    write();
    assertEquals(await cache.invalidateTags("users"), "pending");
    await cache.set("b", 1, options);
    assertEquals((await cache.getOrLoad("a", load, options)).value(), 2);
    await cache.close();
  });

  it("keeps nothing that Redis answers meanwhile", async () => {
    // 1. reader: GET c is sent, and misses
    // 2. another process fills c with the old value
    // 3. writer: delete(c) fails, is owed, and is acknowledged as pending
    // 4. reader: wants the lease on c, and is answered the old value; must not install it
    const { cache, server, runtime, load, write } = await openWarm();
    const held = new Held(/^a get c: reply/);
    server.gate = held.gate;
    const slow = cache.getOrLoad("c", load, options);
    await held.reached;
    const other = new Cache({ runtime, memoryBytes: 64 * 1024 }, server.connect("b"));
    await other.getOrLoad("c", load, options);
    await settle();
    write();
    assertEquals(await cache.delete("c"), "pending");
    held.letGo();
    await slow;
    assertEquals((await cache.getOrLoad("c", load, options)).value(), 2);
    await cache.close();
    await other.close();
  });
});
