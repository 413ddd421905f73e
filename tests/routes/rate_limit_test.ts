import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import type { Allowance, RateLimiter } from "../../routes/app.ts";
import { createApi } from "./api_fixture.ts";

/** Allows each client so many requests, and notes who they are from. */
class Counting implements RateLimiter {
  readonly windowMs = 60_000;
  readonly clients: string[] = [];

  constructor(readonly name: string, readonly limit: number) {}

  take(client: string): Promise<Allowance> {
    this.clients.push(client);
    const used = this.clients.filter((each) => each === client).length;
    const remaining = Math.max(0, this.limit - used);
    return Promise.resolve({ allowed: used <= this.limit, remaining, resetMs: 12_345 });
  }
}

describe("createApp() with a limit on what stands behind the guard", () => {
  it("answers 429 past it, with when to come back, and touches nothing", async () => {
    const admin = new Counting("admin", 2);
    await using api = createApi({ limits: { admin, trustedProxies: 0 } });
    const first = await api.send("/cache/stats");
    assertEquals(first.status, 200);
    assertEquals(headersOf(first), ['"admin";q=2;w=60', '"admin";r=1;t=13', null]);
    await first.body?.cancel();
    assertEquals((await api.send("/users/1", { method: "DELETE" })).status, 204);
    const { calls } = api.users;
    const refused = await api.send("/users/2", { method: "DELETE" });
    assertEquals(refused.status, 429);
    assertEquals(headersOf(refused), ['"admin";q=2;w=60', '"admin";r=0;t=13', "13"]);
    assertEquals(await refused.json(), { error: "Too many requests" });
    assertEquals(api.users.calls, calls);
  });

  it("tells what is left on every answer, whether the request succeeds or fails", async () => {
    const admin = new Counting("admin", 9);
    await using api = createApi({ limits: { admin, trustedProxies: 0 } });
    const told: (readonly [status: number, left: string | null])[] = [];
    for (
      const [method, path, body] of [
        ["GET", "/cache/stats"],
        ["GET", "/cache/entries/%7B"],
        ["PATCH", "/users/1", { bio: "new" }],
        ["PATCH", "/users/1", { bio: 5 }],
        ["PATCH", "/users/77", { bio: "new" }],
        ["DELETE", "/users/x"],
      ] as const
    ) {
      const response = await api.send(path, { method, ...(body === undefined ? {} : { body }) });
      told.push([response.status, response.headers.get("ratelimit")]);
      await response.body?.cancel();
    }
    const statuses = [200, 400, 200, 400, 404, 400];
    assertEquals(told, statuses.map((status, at) => [status, `"admin";r=${8 - at};t=13`]));
  });

  it("slows down those who guess a token, and does not lock out who has it behind the same proxy", async () => {
    const admin = new Counting("admin", 2);
    const access = { adminTokens: ["secret"], open: "off" } as const;
    await using api = createApi({ access, limits: { admin, trustedProxies: 0 } });
    const statuses: number[] = [];
    for (const guess of ["a", "b", "c", "secret"]) {
      const headers = { authorization: `Bearer ${guess}` };
      const response = await api.send("/cache/stats", { headers });
      statuses.push(response.status);
      await response.body?.cancel();
    }
    assertEquals(statuses, [401, 401, 429, 200]);
  });

  it("leaves the reads of users alone", async () => {
    const admin = new Counting("admin", 0);
    await using api = createApi({ limits: { admin, trustedProxies: 0 } });
    for (const path of ["/users/1", "/users", "/openapi.json", "/docs", "/healthz"]) {
      const response = await api.send(path);
      assertEquals([response.status, headersOf(response)], [200, [null, null, null]]);
      await response.body?.cancel();
    }
    assertEquals(admin.clients, []);
  });
});

describe("createApp() with a limit on all", () => {
  it("answers 429 past it everywhere but for its health", async () => {
    const clients = new Counting("client", 1);
    await using api = createApi({ limits: { clients, trustedProxies: 0 } });
    const statuses: [string, number][] = [];
    for (const path of ["/users/1", "/users/1", "/nowhere", "/healthz", "/readyz"]) {
      const response = await api.send(path);
      statuses.push([path, response.status]);
      await response.body?.cancel();
    }
    assertEquals(statuses.map(([, status]) => status), [200, 429, 429, 200, 200]);
  });

  it("tells what is left on an answer that is kept for the next", async () => {
    const clients = new Counting("client", 9);
    await using api = createApi({ limits: { clients, trustedProxies: 0 } });
    for (const left of [8, 7, 6, 5]) {
      const response = await api.send("/users/1");
      assertEquals(headersOf(response)[1], `"client";r=${left};t=13`);
      await response.body?.cancel();
    }
  });
});

describe("createApp() with both limits and origins", () => {
  const origin = "https://app.example";

  it("lets pages read a refusal as they do an answer, and counts no preflight", async () => {
    const clients = new Counting("client", 1);
    await using api = createApi({ corsOrigins: [origin], limits: { clients, trustedProxies: 0 } });
    const ask = (method: string) => {
      const headers = { origin, "access-control-request-method": "GET" };
      return api.send("/users/1", { method, headers });
    };
    for (let i = 0; i < 3; i++) assertEquals((await ask("OPTIONS")).status, 204);
    assertEquals(clients.clients, []);
    for (const status of [200, 429]) {
      const { status: got, headers, body } = await ask("GET");
      await body?.cancel();
      assertEquals([got, headers.get("access-control-allow-origin")], [status, origin]);
    }
  });

  it("says when this process counts alone", async () => {
    const clients = new Counting("client", 9);
    const take = (client: string) =>
      clients.take(client).then((each) => ({ ...each, local: true }));
    const limiter = { name: "client", limit: 9, windowMs: 60_000, take };
    await using api = createApi({ limits: { clients: limiter, trustedProxies: 0 } });
    const response = await api.send("/users/1");
    await response.body?.cancel();
    assertEquals(response.headers.get("ratelimit-policy"), '"client";q=9;w=60;local');
  });

  it("tells of both", async () => {
    const limits = {
      clients: new Counting("client", 9),
      admin: new Counting("admin", 5),
      trustedProxies: 0,
    };
    await using api = createApi({ limits });
    const response = await api.send("/cache/stats");
    await response.body?.cancel();
    assertEquals(response.headers.get("ratelimit"), '"admin";r=4;t=13, "client";r=8;t=13');
  });
});

function headersOf({ headers }: Response): (string | null)[] {
  return ["ratelimit-policy", "ratelimit", "retry-after"].map((name) => headers.get(name));
}
