import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { NO_CHANGES } from "../../cache/changes.ts";
import { Cache, type CatchUpRequest } from "../../cache/mod.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";
import { SimulatedServer } from "../support/simulated_store.ts";

describe("Cache on a store, with a source of changes", () => {
  it("reads nothing from the store before it has been caught up with", async () => {
    const runtime = new FakeRuntime();
    const server = new SimulatedServer({ clock: runtime.clock });
    await using writer = new Cache({ runtime }, server.connect("writer"));
    await writer.set("a", "old");
    const requests: CatchUpRequest[] = [];
    const applied = Promise.withResolvers<void>();
    const catchUp = (request: CatchUpRequest) => (requests.push(request), applied.promise);
    const changes = { attach: () => ({ ...NO_CHANGES, catchUp }) };
    await using cache = new Cache({ runtime, changes }, server.connect("reader"));
    await settle();
    assertEquals(requests, [{ server: "", replay: true }]);
    assertEquals(await cache.get("a"), undefined);
    assertEquals((await cache.getOrLoad("a", () => Promise.resolve("new"))).source, "load");
    applied.resolve();
    await settle();
    assertEquals((await cache.get("a"))?.source, "redis");
  });
});
