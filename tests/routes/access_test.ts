import { assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type Api, createApi } from "./api_fixture.ts";

const guarded = [
  ["POST", "/users"],
  ["PUT", "/users/1"],
  ["PATCH", "/users/1"],
  ["DELETE", "/users/1"],
  ["GET", "/cache/stats"],
  ["HEAD", "/cache/stats"],
  ["DELETE", "/cache"],
  ["POST", "/cache/warm"],
  ["GET", "/cache/live"],
  ["HEAD", "/cache/live"],
  ["GET", "/cache/entries/users:1"],
  ["DELETE", "/cache/entries/users:1"],
  ["GET", "/metrics"],
] as const;
const open = [
  "/users/1",
  "/users",
  "/users?ids=1",
  "/healthz",
  "/readyz",
  "/openapi.json",
  "/docs",
  "/",
  "/dashboard/main.js",
];
const token = "correct-horse-battery";
const old = "wrong-donkey-staple";

describe("createApp() with admin tokens", () => {
  const access = { adminTokens: [token, old], open: "on" } as const;

  for (const [method, path] of guarded) {
    it(`guards ${method} ${path}: without a good token nothing is touched`, async () => {
      await using api = createApi({ access });
      for (
        const [authorization, status] of [
          [undefined, 401],
          [`Bearer ${token}x`, 401],
          [`Bearer ${token.slice(1)}`, 401],
          ["Bearer", 400],
          [`Basic ${token}`, 400],
        ] as const
      ) {
        const headers = authorization === undefined ? {} : { authorization };
        const answer = await api.send(path, { method, headers });
        assertEquals(answer.status, status);
        assertMatch(answer.headers.get("www-authenticate") ?? "", /^Bearer /);
        assertEquals(answer.headers.get("content-type"), "application/json");
        if (method !== "HEAD") assertEquals(await answer.json(), { error: "Unauthorized" });
      }
      assertUntouched(api);
      for (const good of [token, old]) {
        const headers = { authorization: `Bearer ${good}`, "content-type": "text/plain" };
        const { status } = await api.send(path, { method, headers });
        // Past the guard; the writes then miss their JSON, and the user is deleted but once.
        assertEquals([200, 204, 404, 415].includes(status), true, String(status));
      }
    });
  }

  for (const path of open) {
    it(`leaves GET ${path} open`, async () => {
      await using api = createApi({ access });
      assertEquals((await api.send(path)).status, 200);
    });
  }
});

describe("createApp() without admin tokens", () => {
  for (const [method, path] of guarded) {
    it(`forbids ${method} ${path} where other machines can reach it, before anything is touched`, async () => {
      await using api = createApi({ access: { adminTokens: [], open: "off" } });
      for (const headers of [{}, { authorization: "Bearer " }, { authorization: "Bearer x" }]) {
        assertEquals((await api.send(path, { method, headers })).status, 403);
      }
      assertUntouched(api);
    });
  }

  it("leaves the reads open to other machines", async () => {
    await using api = createApi({ access: { adminTokens: [], open: "off" } });
    for (const path of open) assertEquals((await api.send(path)).status, 200);
  });
});

describe("createApp() without admin tokens, open on loopback", () => {
  const access = { adminTokens: [], open: "loopback" } as const;

  for (const [method, path] of guarded) {
    it(`lets ${method} ${path} be asked of localhost, and of no name that others may point here`, async () => {
      await using api = createApi({ access });
      for (
        const host of ["localhost:3000", "127.0.0.1", "127.9.9.9:80", "[::1]:3000", "LOCALHOST"]
      ) {
        const { status } = await api.fetch(new Request(`http://${host}${path}`, { method }));
        assertNotEquals(status, 403, host);
      }
      const before = api.users.calls.length;
      for (
        const host of ["app.example", "evil.example:3000", "127.0.0.1.evil.example", "10.0.0.1"]
      ) {
        const { status } = await api.fetch(new Request(`http://${host}${path}`, { method }));
        assertEquals(status, 403, host);
      }
      assertEquals(api.users.calls.length, before);
    });
  }

  it("lets nothing be passed on by a proxy that says so", async () => {
    await using api = createApi({ access });
    for (const name of ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]) {
      const answer = await api.fetch(
        new Request("http://localhost/cache", { method: "DELETE", headers: { [name]: "x" } }),
      );
      assertEquals(answer.status, 403, name);
    }
    assertUntouched(api);
  });
});

describe("createApp() without admin tokens, to pages of other origins,", () => {
  for (const open of ["loopback", "on"] as const) {
    for (const [method, path] of guarded) {
      it(`forbids ${method} ${path}, whoever may read (open: ${open})`, async () => {
        await using api = createApi({ access: { adminTokens: [], open }, corsOrigins: ["*"] });
        const ask = (headers: HeadersInit) =>
          api.fetch(new Request(`http://localhost:3000${path}`, { method, headers }));
        for (
          const headers of [
            { origin: "https://evil.example" },
            { origin: "null" },
            { origin: "http://localhost:3001" },
            { "sec-fetch-site": "cross-site" },
            { "sec-fetch-site": "same-site", origin: "http://localhost:3000" },
          ]
        ) assertEquals((await ask(headers)).status, 403, JSON.stringify(headers));
        assertUntouched(api);
        for (
          const headers of [
            { origin: "http://localhost:3000" },
            { origin: "https://localhost:3000" },
            { "sec-fetch-site": "same-origin", origin: "https://app.example" },
            { "sec-fetch-site": "none" },
          ]
        ) assertNotEquals((await ask(headers)).status, 403, JSON.stringify(headers));
      });
    }
  }
});

function assertUntouched({ users, cache, errors }: Api): void {
  assertEquals([users.calls, cache.calls, errors], [[], [], []]);
}
