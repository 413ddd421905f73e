import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { InvalidationLog } from "../../cache/dashboard/mod.ts";
import { FakeClock } from "../support/fake_runtime.ts";
import { createApi } from "./api_fixture.ts";

const fields = { name: "Jane", email: "jane@example.com" };

describe("InvalidationLog", () => {
  it("keeps the last ones, the latest first, and a bound of names in each", async () => {
    const clock = new FakeClock();
    const log = new InvalidationLog(clock);
    for (let i = 0; i < 100; i++) {
      log.note("change feed", { keys: Array.from({ length: 1_000 }, (_, at) => `k${i}:${at}`) });
      await clock.advance(10);
    }
    const recent = log.recent();
    assertEquals(recent.length, 12);
    assertEquals(recent[0], {
      id: 99,
      atMs: clock.now() - 10,
      cause: "change feed",
      keys: ["k99:0", "k99:1", "k99:2", "k99:3", "k99:4"],
      keyCount: 1_000,
      tags: [],
      everything: false,
      pending: false,
    });
  });

  it("does not note what invalidated nothing", () => {
    const log = new InvalidationLog(new FakeClock());
    log.note("change feed", { keys: [], tags: [] });
    assertEquals(log.recent(), []);
  });
});

describe("createApp() notes what it invalidates", () => {
  for (
    const [name, path, init, expected] of [
      ["a write", "/users/5", { method: "PUT", body: fields }, ["write", ["users:5"], false]],
      ["a deletion of a user", "/users/5", { method: "DELETE" }, ["write", ["users:5"], false]],
      ["one entry", "/cache/entries/users:5", { method: "DELETE" }, ["admin", ["users:5"], false]],
      ["everything", "/cache", { method: "DELETE" }, ["admin", [], true]],
    ] as const
  ) {
    it(`with its cause: ${name}`, async () => {
      await using api = createApi();
      await api.send(path, init);
      const noted = api.invalidations.recent().map(({ cause, keys, everything }) => [
        cause,
        keys,
        everything,
      ]);
      assertEquals<unknown>(noted, [expected]);
    });
  }

  it("but no write that failed", async () => {
    await using api = createApi();
    api.users.failure = new Error("down");
    await api.send("/users/5", { method: "PUT", body: fields });
    assertEquals(api.invalidations.recent(), []);
  });
});
