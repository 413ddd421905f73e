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

/** What comes to the server with a request. */
function from(hostname: string): { remoteAddr: { hostname: string } } {
  return { remoteAddr: { hostname } };
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

  it("counts those who guess a token, before it is compared", async () => {
    const admin = new Counting("admin", 2);
    const access = { adminTokens: ["secret"], open: false };
    await using api = createApi({ access, limits: { admin, trustedProxies: 0 } });
    const statuses: number[] = [];
    for (const guess of ["a", "b", "secret"]) {
      const headers = { authorization: `Bearer ${guess}` };
      const response = await api.send("/cache/stats", { headers });
      statuses.push(response.status);
      await response.body?.cancel();
    }
    assertEquals(statuses, [401, 401, 429]);
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

describe("a client, to a limit,", () => {
  const forwarded = "6.6.6.6, 5.5.5.5, 4.4.4.4";

  for (
    const [what, address, headers, trustedProxies, client] of [
      ["is where its connection comes from", "9.9.9.9", {}, 0, "9.9.9.9"],
      ["can't say that it is another", "9.9.9.9", { "x-forwarded-for": forwarded }, 0, "9.9.9.9"],
      ["is who a proxy saw", "9.9.9.9", { "x-forwarded-for": forwarded }, 1, "4.4.4.4"],
      ["is who the outer of two saw", "9.9.9.9", { "x-forwarded-for": forwarded }, 2, "5.5.5.5"],
      ["is the proxy that adds nothing", "9.9.9.9", {}, 1, "9.9.9.9"],
      ["is no name", "9.9.9.9", { "x-forwarded-for": "me" }, 1, "9.9.9.9"],
      ["is a network of IPv6", "2001:db8:1:2:3:4:5:6", {}, 0, "2001:db8:1:2::/64"],
      ["is one with zeros left out", "2001:db8::6", {}, 0, "2001:db8:0:0::/64"],
      ["is this machine", "::1", {}, 0, "0:0:0:0::/64"],
      ["is an IPv4 address within IPv6", "::ffff:9.9.9.9", {}, 0, "9.9.9.9"],
    ] as const
  ) {
    it(what, async () => {
      const clients = new Counting("client", 1);
      await using api = createApi({ limits: { clients, trustedProxies } });
      const request = new Request("http://x/healthy", { headers });
      await (await api.fetch(request, from(address))).body?.cancel();
      assertEquals(clients.clients, [client]);
    });
  }
});

function headersOf({ headers }: Response): (string | null)[] {
  return ["ratelimit-policy", "ratelimit", "retry-after"].map((name) => headers.get(name));
}
