import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Coherence } from "../../cache/coherence.ts";
import { Cache } from "../../cache/mod.ts";
import type { Store } from "../../cache/store.ts";
import { Tags } from "../../cache/tags.ts";
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
  const tags = new Tags(store, coherence, () => `v${versions++}`);
  const reads = () =>
    (server.commands.get("readTag") ?? 0) + (server.commands.get("createTag") ?? 0);
  return { clock, coherence, server, tags, reads };
}

describe("Tags", () => {
  it("gives a tag that has no version one, and then asks nobody for it", async () => {
    const { tags, reads } = open();
    const known = await tags.ensure(["users", "posts"]);
    assertEquals(known.map(({ name }) => name), ["users", "posts"]);
    assertEquals(reads(), 2);
    assertEquals(await tags.ensure(["users", "posts"]), known);
    assertEquals(tags.current(known), true);
    assertEquals(reads(), 2);
  });

  it("judges an entry by the versions that it saw", async () => {
    const { tags } = open();
    const known = await tags.ensure(["users"]);
    await tags.invalidate(["users"]);
    assertEquals(tags.current(known), undefined); // has to be read first
    const read = await tags.read(["users"]);
    assertEquals(tags.current(known, read), false);
    assertEquals(tags.current(known), false); // held now
    assertEquals(tags.current(await tags.ensure(["users"])), true);
  });

  it("takes a tag that is missing for changed", async () => {
    const { tags, server } = open();
    const known = await tags.ensure(["users"]);
    server.remove("la:1:{users}:tag");
    tags.forgetAll();
    const read = await tags.read(["users"]);
    assertEquals(read, new Map([["users", null]]));
    assertEquals(tags.current(known, read), false);
    assertNotEquals(await tags.ensure(["users"]), known);
  });

  it("believes what it holds only while memory may be trusted", async () => {
    const { tags, clock, reads } = open();
    const known = await tags.ensure(["users"]);
    await clock.advance(1_000);
    assertEquals(tags.held("users"), undefined);
    assertEquals(tags.current(known), undefined);
    await tags.ensure(["users"]);
    assertEquals(reads(), 2);
  });

  it("does not hold a version that changed while it was being read", async () => {
    const { tags, server, coherence } = open();
    await tags.ensure(["users"]);
    tags.forgetAll();
    const reply = Promise.withResolvers<void>();
    server.gate = (step) => step.endsWith("reply") ? reply.promise : Promise.resolve();
    const reading = tags.read(["users"]);
    await settle();
    tags.forget(["users"]); // the feed announces a new version
    reply.resolve();
    await reading;
    assertEquals(tags.held("users"), undefined);
    assert(coherence.trusted());
  });

  it("forgets what it held even when Redis does not take the new version", async () => {
    const { tags } = open({ writeTags: () => Promise.reject(new Error("down")) });
    const known = await tags.ensure(["users"]);
    await assertRejects(() => tags.invalidate(["users"]), Error, "down");
    assertEquals(tags.held("users"), undefined);
    assertEquals(tags.current(known), undefined);
  });

  it("changes its epoch whenever a held version is lost or replaced", async () => {
    const { tags } = open();
    const changes: readonly (() => unknown)[] = [
      () => tags.invalidate(["users"]),
      () => tags.forget(["users"]),
      () => tags.forgetAll(),
    ];
    for (const change of changes) {
      await tags.ensure(["users"]);
      const before = tags.epoch;
      await tags.ensure(["users"]);
      assertEquals(tags.epoch, before);
      await change();
      assertNotEquals(tags.epoch, before);
    }
  });

  it("keeps versions itself where there is no Redis", async () => {
    let versions = 0;
    const coherence = new Coherence(new FakeClock(), Infinity);
    const tags = new Tags(undefined, coherence, () => `v${versions++}`);
    const known = await tags.ensure(["users"]);
    assertEquals(tags.current(known), true);
    assertEquals(await tags.read(["users", "none"]), new Map([["users", "v0"], ["none", null]]));
    await tags.invalidate(["users"]);
    assertEquals(tags.current(known), false);
  });
});

describe("Cache, reading under tags that it does not hold", () => {
  it("asks for them together with the entry", async () => {
    const runtime = new FakeRuntime();
    const { clock } = runtime;
    const server = new SimulatedServer({ clock });
    await using writer = new Cache({ store: server.connect("writer"), runtime });
    await writer.set("page", [1], { tags: ["users"] });
    await using reader = new Cache({ store: server.connect("reader"), runtime });
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
