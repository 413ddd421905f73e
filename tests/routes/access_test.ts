import { assertEquals, assertMatch } from "@std/assert";
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
  const access = { adminTokens: [token, old], open: true };

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
      await using api = createApi({ access: { adminTokens: [], open: false } });
      for (const headers of [{}, { authorization: "Bearer " }, { authorization: "Bearer x" }]) {
        assertEquals((await api.send(path, { method, headers })).status, 403);
      }
      assertUntouched(api);
    });
  }

  it("leaves the reads open to other machines", async () => {
    await using api = createApi({ access: { adminTokens: [], open: false } });
    for (const path of open) assertEquals((await api.send(path)).status, 200);
  });
});

function assertUntouched({ users, cache, errors }: Api): void {
  assertEquals([users.calls, cache.calls, errors], [[], [], []]);
}
