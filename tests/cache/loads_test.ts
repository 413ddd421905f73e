import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { LoadRejectedError, LoadTimeoutError } from "../../cache/errors.ts";
import { type LoadFlight, Loads } from "../../cache/loads.ts";
import { Lookup } from "../../cache/lookup.ts";
import { FakeRuntime, settle } from "../support/fake_runtime.ts";

function open(): { readonly runtime: FakeRuntime; readonly loads: Loads } {
  const runtime = new FakeRuntime();
  const bounds = { loadTimeoutMs: 100, loadsMax: 1, loadsWaitingMax: 1 };
  return { runtime, loads: new Loads(runtime, bounds) };
}

function flightOf(lease: string): LoadFlight {
  return { lease, outcome: Promise.resolve(new Lookup("load", "1", 0, false)) };
}

const never = (): Promise<never> => new Promise(() => {});

describe("Loads, running", () => {
  it("ends a load at its deadline, and aborts its signal with the same error", async () => {
    const { runtime, loads } = open();
    const signals: AbortSignal[] = [];
    const refused = assertRejects(
      () => loads.run(({ signal }) => (signals.push(signal), never())),
      LoadTimeoutError,
    );
    await runtime.clock.advance(99);
    assertEquals(signals[0]?.aborted, false);
    await runtime.clock.advance(1);
    assert(signals[0]?.reason === await refused);
    assertEquals(runtime.clock.timers, 0);
  });

  it("counts the wait for its turn, and keeps the place of a loader that does not end", async () => {
    const { runtime, loads } = open();
    const end = Promise.withResolvers<number>();
    let ran = false;
    const outcomes = Promise.all([
      assertRejects(() => loads.run(() => end.promise), LoadTimeoutError),
      assertRejects(() => loads.run(() => (ran = true, Promise.resolve())), LoadTimeoutError),
    ]);
    await settle();
    await assertRejects(() => loads.run(never), LoadRejectedError);
    await runtime.clock.advance(100);
    await outcomes;
    assertEquals(ran, false);
    const next = loads.run(() => Promise.resolve(3));
    end.resolve(1);
    assertEquals(await next, 3);
    assertEquals(runtime.clock.timers, 0);
  });

  it("passes on what a loader throws at once", async () => {
    const { runtime, loads } = open();
    const error = new Error("bug");
    const failed = await assertRejects(() =>
      loads.run(() => {
        throw error;
      })
    );
    assert(failed === error);
    assertEquals(runtime.clock.timers, 0);
  });

  it("close() aborts what runs and waits, and refuses what comes", async () => {
    const { runtime, loads } = open();
    const running = [loads.run(never), loads.run(never)];
    const reason = new Error("closed");
    loads.close(reason);
    for (const outcome of await Promise.allSettled([...running, loads.run(never)])) {
      assert(outcome.status === "rejected" && outcome.reason === reason);
    }
    assertEquals(runtime.clock.timers, 0);
  });
});

describe("Loads, flights", () => {
  it("finds a flight until it lands or is detached", () => {
    const { loads } = open();
    const flight = flightOf("n1");
    loads.launch("a", flight);
    assert(loads.flight("a") === flight);
    loads.land("a", flight);
    assertEquals(loads.flight("a"), undefined);
    loads.launch("a", flight);
    loads.detach("a");
    assertEquals(loads.flight("a"), undefined);
    loads.launch("a", flight);
    loads.detachAll();
    assertEquals(loads.flight("a"), undefined);
  });

  it("land() of a detached flight leaves the one that took its place", () => {
    const { loads } = open();
    const [first, second] = [flightOf("n1"), flightOf("n2")];
    loads.launch("a", first);
    loads.detach("a");
    loads.launch("a", second);
    loads.land("a", first);
    assert(loads.flight("a") === second);
  });
});
