import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";

describe("GET /healthz", () => {
  it("answers 200 whatever fails, asking nobody", async () => {
    await using api = createApi({ ready: () => false });
    api.users.failure = new Error("down");
    const answer = await api.send("/healthz");
    assertEquals([answer.status, await answer.json()], [200, { status: "ok" }]);
    assertEquals([api.users.calls, api.cache.calls], [[], []]);
  });
});

describe("GET /readyz", () => {
  it("answers 200 while ready, also if that takes a while to find out", async () => {
    for (const ready of [() => true, () => Promise.resolve(true)]) {
      await using api = createApi({ ready });
      const answer = await api.send("/readyz");
      assertEquals([answer.status, await answer.json()], [200, { status: "ready" }]);
      assertEquals(answer.headers.get("cache-control"), "no-store");
    }
  });

  it("answers 503 while not", async () => {
    for (const ready of [() => false, () => Promise.resolve(false)]) {
      await using api = createApi({ ready });
      const answer = await api.send("/readyz");
      assertEquals([answer.status, await answer.json()], [503, { error: "Not ready" }]);
      assertEquals(answer.headers.get("retry-after"), "1");
      assertEquals(api.errors, []);
    }
  });

  it("answers 503 when it cannot be found out, and reports why", async () => {
    const failure = new Error("Cannot ask: gone");
    await using api = createApi({ ready: () => Promise.reject(failure) });
    assertEquals((await api.send("/readyz")).status, 503);
    assertEquals(api.errors, [
      { error: failure, context: { method: "GET", path: "/readyz", status: 503 } },
    ]);
  });
});
