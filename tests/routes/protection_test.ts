import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi } from "./api_fixture.ts";

const origin = "https://app.example";

describe("createApp(), to a browser,", () => {
  for (const path of ["/", "/docs"]) {
    it(`protects the page at ${path} from other sites`, async () => {
      await using api = createApi();
      const { headers, body } = await api.send(path);
      await body?.cancel();
      for (
        const [name, value] of [
          ["x-content-type-options", "nosniff"],
          ["x-frame-options", "DENY"],
          ["referrer-policy", "no-referrer"],
          ["cross-origin-opener-policy", "same-origin"],
          ["cross-origin-resource-policy", "same-origin"],
          ["permissions-policy", "camera=(), geolocation=(), microphone=()"],
          ["strict-transport-security", null],
        ] as const
      ) assertEquals(headers.get(name), value, name);
      assert(headers.get("content-security-policy")?.startsWith("default-src 'none'"));
    });
  }

  it("lets nobody take an error for something else than JSON", async () => {
    await using api = createApi({ access: { adminTokens: ["secret"], open: "off" } });
    for (
      const [path, status] of [["/users/<b>", 400], ["/users/77", 404], ["/nowhere", 404], [
        "/cache/stats",
        401,
      ]] as const
    ) {
      const response = await api.send(path);
      assertEquals([response.status, response.headers.get("x-content-type-options")], [
        status,
        "nosniff",
      ]);
      await response.body?.cancel();
    }
  });
});

describe("createApp() without origins", () => {
  it("lets no page of others read an answer, nor ask whether it may", async () => {
    await using api = createApi();
    const headers = { origin, "access-control-request-method": "PUT" };
    const answer = await api.send("/users/1", { headers });
    assertEquals([answer.status, corsHeaders(answer)], [200, []]);
    await answer.body?.cancel();
    const preflight = await api.send("/users/1", { method: "OPTIONS", headers });
    assertEquals([preflight.status, corsHeaders(preflight)], [405, []]);
    await preflight.body?.cancel();
  });
});

describe("createApp() with origins", () => {
  const corsOrigins = [origin, "http://localhost:5173"];

  it("lets their pages read answers, errors and hits from memory too", async () => {
    await using api = createApi({ corsOrigins });
    for (const path of ["/users/1", "/users/1", "/users/1", "/users/x", "/nowhere"]) {
      const { headers, body } = await api.send(path, { headers: { origin } });
      await body?.cancel();
      assertEquals(headers.get("access-control-allow-origin"), origin);
      assertEquals(headers.get("vary"), "Origin");
    }
  });

  it("lets no others", async () => {
    await using api = createApi({ corsOrigins });
    for (const other of ["https://app.example.evil", "http://app.example", "null"]) {
      const { headers, body } = await api.send("/users/1", { headers: { origin: other } });
      await body?.cancel();
      assertEquals(headers.get("access-control-allow-origin"), null);
    }
  });

  it("grants no write to pages that may read, not even to everybody's", async () => {
    for (const origins of [corsOrigins, ["*"]]) {
      await using api = createApi({ corsOrigins: origins });
      for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
        const headers = { origin, "access-control-request-method": method };
        const preflight = await api.send("/users/1", { method: "OPTIONS", headers });
        assertEquals(preflight.headers.get("access-control-allow-origin"), null, method);
      }
    }
  });

  it("grants writes to pages that may write, which still want their token", async () => {
    const access = { adminTokens: ["secret"], open: "off" } as const;
    await using api = createApi({ corsWriteOrigins: [origin], access });
    const headers = {
      origin,
      "access-control-request-method": "PUT",
      "access-control-request-headers": "authorization,content-type",
    };
    const preflight = await api.send("/users/1", { method: "OPTIONS", headers });
    assertEquals(preflight.status, 204);
    assertEquals(preflight.headers.get("access-control-allow-origin"), origin);
    assert(preflight.headers.get("access-control-allow-methods")?.includes("PUT"));
    assert(preflight.headers.get("access-control-allow-headers")?.includes("authorization"));
    for (const method of ["PUT", "GET"]) {
      const path = method === "GET" ? "/metrics" : "/users/1";
      const refused = await api.send(path, { method, headers: { origin } });
      assertEquals(refused.status, 401);
      assertEquals(refused.headers.get("access-control-allow-origin"), origin);
      await refused.body?.cancel();
    }
  });

  it("lets everybody's where that is said", async () => {
    await using api = createApi({ corsOrigins: ["*"] });
    const { headers, body } = await api.send("/users/1", { headers: { origin } });
    await body?.cancel();
    assertEquals(headers.get("access-control-allow-origin"), "*");
  });

  it("still names the methods of a path that has no such one", async () => {
    await using api = createApi({ corsOrigins });
    const response = await api.send("/users", { method: "PATCH" });
    assertEquals([response.status, response.headers.get("allow")], [405, "GET, HEAD, POST"]);
    await response.body?.cancel();
  });
});

function corsHeaders({ headers }: Response): string[] {
  return [...headers.keys()].filter((name) => name.startsWith("access-control-"));
}
