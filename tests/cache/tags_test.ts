import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Coherence } from "../../cache/coherence.ts";
import { Cache } from "../../cache/mod.ts";
import type { Store } from "../../cache/store.ts";
import { HeldTags, Tags } from "../../cache/tags.ts";
import { FakeClock, FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

/** Tags over a simulated Redis, whose feed is good from the start. */
function open(overrides: Partial<Store> = {}) {
  const clock = new FakeClock();
  const server = new SimulatedServer({ clock });
  const coherence = new Coherence(clock, 1_000);
  coherence.open();
  coherence.alive(0);
  let versions = 0;
  const store: Store = Object.assign(server.connect("a"), overrides);
  const held = new HeldTags(coherence);
  const tags = new Tags({ store, held, coherence, newNonce: () => `v${versions++}` });
  const reads = () =>
    (server.commands.get("readTag") ?? 0) + (server.commands.get("createTag") ?? 0);
  return { clock, coherence, server, held, tags, reads };
}

describe("Tags", () => {
  it("gives a tag that has no version one, and then asks nobody for it", async () => {
    const { held, tags, reads } = open();
    const known = await tags.ensure(["users", "posts"]);
    assertEquals(known.map(({ name }) => name), ["users", "posts"]);
    assertEquals(reads(), 2);
    assertEquals(await tags.ensure(["users", "posts"]), known);
    assertEquals(held.current(known), true);
    assertEquals(reads(), 2);
  });

  it("judges an entry by the versions that it saw", async () => {
    const { held, tags } = open();
    const known = await tags.ensure(["users"]);
    await tags.invalidate(["users"]);
    assertEquals(held.current(known), undefined); // has to be read first
    const read = await tags.read(["users"]);
    assertEquals(held.current(known, read), false);
    assertEquals(held.current(await tags.ensure(["users"])), true);
    assertEquals(held.current(known), false); // a new version is held now
  });

  it("takes a tag that is missing for changed", async () => {
    const { held, tags, server } = open();
    const known = await tags.ensure(["users"]);
    server.remove("la:1:{users}:tag");
    held.forgetAll();
    const read = await tags.read(["users"]);
    assertEquals(read, new Map([["users", null]]));
    assertEquals(held.current(known, read), false);
    assertNotEquals(await tags.ensure(["users"]), known);
  });

  it("believes what it holds only while memory may be trusted", async () => {
    const { held, tags, clock, reads } = open();
    const known = await tags.ensure(["users"]);
    await clock.advance(1_000);
    assertEquals(held.version("users"), undefined);
    assertEquals(held.current(known), undefined);
    await tags.ensure(["users"]);
    assertEquals(reads(), 2);
  });

  it("does not hold a version that changed while it was being read", async () => {
    const { held, tags, server, coherence } = open();
    await tags.ensure(["users"]);
    held.forgetAll();
    const reply = Promise.withResolvers<void>();
    server.gate = (step) => step.endsWith("reply") ? reply.promise : Promise.resolve();
    const reading = tags.read(["users"]);
    await settle();
    held.forget(["users"]); // the feed announces a new version
    reply.resolve();
    await reading;
    assertEquals(held.version("users"), undefined);
    assert(coherence.trusted());
  });

  it("forgets what it held even when Redis does not take the new version", async () => {
    const { held, tags } = open({ writeTags: () => Promise.reject(new Error("down")) });
    const known = await tags.ensure(["users"]);
    await assertRejects(() => tags.invalidate(["users"]), Error, "down");
    assertEquals(held.version("users"), undefined);
    assertEquals(held.current(known), undefined);
  });

  it("changes its epoch whenever a held version is lost or replaced", async () => {
    const { held, tags } = open();
    const changes: readonly (() => unknown)[] = [
      () => tags.invalidate(["users"]),
      () => held.forget(["users"]),
      () => held.forgetAll(),
    ];
    for (const change of changes) {
      await tags.ensure(["users"]);
      const before = held.epoch;
      await tags.ensure(["users"]);
      assertEquals(held.epoch, before);
      await change();
      assertNotEquals(held.epoch, before);
    }
  });

  it("shares one object of a version among the entries that carry it, and counts it once", async () => {
    const { held, tags } = open();
    const known = await tags.ensure(["users", "posts"]);
    assertEquals(held.bytes, 0);
    const [first, second] = [held.carry(known), held.carry(known.map((tag) => ({ ...tag })))];
    assert(first[0] === second[0] && first[1] === second[1]);
    const { bytes } = held;
    assert(bytes > 0);
    held.uncarry(first);
    assertEquals(held.bytes, bytes);
    held.uncarry(second);
    assertEquals(held.bytes, 0);
    assertEquals(await tags.ensure(["users", "posts"]), known); // still held, as nobody asked for more
  });

  it("keeps the version of a tag for as long as an entry carries it, however many others come", async () => {
    const { held, tags, reads } = open();
    const carried = await tags.ensure(["users"]);
    const spare = await tags.ensure(["posts"]);
    held.carry(carried);
    const names = Array.from({ length: 10_000 }, (_, i) => `t${i}`);
    const epoch = held.epoch;
    for (const name of names) held.hold(name, "v");
    assertEquals(held.epoch, epoch); // what entries carry was not touched
    const before = reads();
    assertEquals(held.current(carried), true);
    assertEquals(held.current(spare), undefined); // it was the least recently used
    assertEquals(reads(), before);
  });

  it("tells the entries that carry a version when it stands no longer", async () => {
    const { held, tags } = open();
    const carried = held.carry(await tags.ensure(["users"]));
    assertEquals(carried.map(({ isCurrent }) => isCurrent), [true]);
    await tags.invalidate(["users"]);
    assertEquals(carried.map(({ isCurrent }) => isCurrent), [false]);
    assertEquals(held.bytes > 0, true);
    held.uncarry(carried);
    assertEquals(held.bytes, 0);
  });
});

describe("Cache, reading under tags that it does not hold", () => {
  it("asks for them together with the entry", async () => {
    const runtime = new FakeRuntime();
    const { clock } = runtime;
    const server = new SimulatedServer({ clock });
    await using writer = new Cache({ runtime }, server.connect("writer"));
    await writer.set("page", [1], { tags: ["users"] });
    await using reader = new Cache({ runtime }, server.connect("reader"));
    await settle(); // the feed is open
    await reader.get("another"); // now it holds the tag of every entry
    const stepMs = 10;
    server.gate = () => new Promise((resolve) => clock.after(stepMs, resolve));
    const reading = reader.getOrLoad("page", () => Promise.resolve([2]), { tags: ["users"] });
    let source: string | undefined;
    void reading.then((lookup) => source = lookup.source);
    await clock.advance(2 * stepMs); // a command goes, and its reply comes
    assertEquals(source, "redis");
    server.gate = () => Promise.resolve();
  });
});
