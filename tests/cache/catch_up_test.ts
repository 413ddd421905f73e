import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { CatchUp, ONE_LIFE } from "../../cache/catch_up.ts";
import { Coherence } from "../../cache/coherence.ts";
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

describe("CatchUp", () => {
  it("has a server read at once until it fails, and what memory holds of it dropped", async () => {
    const runtime = new FakeRuntime();
    const coherence = new Coherence(runtime.clock, 1_000);
    let isReplica = true;
    const told: string[] = [];
    const identity = () =>
      isReplica ? Promise.reject(new Error("a replica")) : Promise.resolve("a");
    const catchUp = new CatchUp(runtime, coherence, {
      lives: { ...ONE_LIFE, identity },
      claim: undefined,
      readsAtOnce: true,
      task: () => Promise.resolve(),
      track: () => undefined,
      onError: () => told.push("error"),
      onMoved: () => told.push("moved"),
      onDone: () => told.push("done"),
    });
    const caughtUp = catchUp.begin();
    assertEquals(coherence.storeIsTrusted(), true);
    await settle();
    assertEquals([coherence.storeIsTrusted(), ...told], [false, "moved", "error"]);
    await runtime.clock.advance(60);
    isReplica = false;
    await runtime.clock.advance(1_000);
    await caughtUp;
    assertEquals([coherence.storeIsTrusted(), told.at(-1)], [true, "done"]);
    assertEquals(told.filter((each) => each === "moved").length, 1);
  });

  it("waits for another process that begins at the same time, and has noted nothing yet", async () => {
    for (const noted of ["a", ""]) {
      const runtime = new FakeRuntime();
      const coherence = new Coherence(runtime.clock, 1_000);
      const tasks: boolean[] = [];
      let remembered = "";
      const catchUp = new CatchUp(runtime, coherence, {
        lives: {
          ...ONE_LIFE,
          identity: () => Promise.resolve("a"),
          remembered: () => Promise.resolve(remembered),
        },
        claim: undefined,
        readsAtOnce: true,
        task: ({ replay }) => Promise.resolve(void tasks.push(replay)),
        track: () => undefined,
        onError: () => undefined,
        onMoved: () => undefined,
        onDone: () => undefined,
      });
      const caughtUp = catchUp.begin();
      await settle();
      assertEquals([coherence.storeIsTrusted(), tasks], [false, []]);
      remembered = noted;
      await runtime.clock.advance(500);
      await caughtUp;
      assertEquals([coherence.storeIsTrusted(), tasks], [true, [noted === ""]]);
    }
  });

  it("goes on reading a server that a later attempt has caught up with", async () => {
    const runtime = new FakeRuntime();
    const coherence = new Coherence(runtime.clock, 1_000);
    const first = Promise.withResolvers<string>();
    const answers = [first.promise, Promise.resolve("a")];
    const catchUp = new CatchUp(runtime, coherence, {
      lives: {
        ...ONE_LIFE,
        identity: () => Promise.resolve("a"),
        remembered: () => answers.shift() ?? Promise.resolve("a"),
      },
      claim: undefined,
      readsAtOnce: true,
      task: () => Promise.resolve(),
      track: () => undefined,
      onError: () => undefined,
      onMoved: () => undefined,
      onDone: () => undefined,
    });
    const superseded = catchUp.begin();
    await settle();
    await catchUp.begin();
    first.resolve("");
    await superseded;
    assertEquals([coherence.storeIsTrusted(), runtime.clock.timers], [true, 0]);
  });

  it("repeats its claim; after one that fails it starts over, and after the end it claims no more", async () => {
    const runtime = new FakeRuntime();
    const coherence = new Coherence(runtime.clock, 1_000);
    const errors: unknown[] = [];
    let claims = 0;
    let refused = false;
    const catchUp = new CatchUp(runtime, coherence, {
      lives: ONE_LIFE,
      claim: () => {
        claims++;
        return refused ? Promise.reject(new Error("another's")) : Promise.resolve();
      },
      readsAtOnce: false,
      task: () => Promise.resolve(),
      track: () => undefined,
      onError: (error) => errors.push(error),
      onMoved: () => undefined,
      onDone: () => undefined,
    });
    await catchUp.begin();
    await runtime.clock.advance(59_000);
    assertEquals([claims, errors.length, coherence.storeIsTrusted()], [3, 0, true]);

    refused = true;
    await runtime.clock.advance(1_000);
    assertEquals([claims, errors.length, coherence.storeIsTrusted()], [5, 1, false]);
    refused = false;
    await runtime.clock.advance(1_000);
    assertEquals([claims, coherence.storeIsTrusted()], [6, true]);

    catchUp.close();
    await runtime.clock.advance(60_000);
    assertEquals([claims, runtime.clock.timers], [6, 0]);
  });
});
