import { assert, assertEquals, assertFalse, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { read } from "../support/load.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { type Service, startService } from "../../tools/servers/service.ts";

interface BadRequest {
  readonly method?: string;
  readonly path: string;
  readonly body?: string;
  readonly type?: string;
  readonly status: number;
}

const valid = { name: "Jane", email: "jane@example.com" };

const badRequests: readonly BadRequest[] = [
  ...["abc", "0", "-1", "1.5", "1e3", "2147483648", "99999999999999999999", "%00", "1%20OR%201=1"]
    .map((id) => ({ path: `/users/${id}`, status: 400 })),
  ...["page=0", "page=-1", "page=abc", "page=1.5", "page=", "limit=0", "limit=101", "limit=-5"]
    .map((query) => ({ path: `/users?${query}`, status: 400 })),
  ...["limit=abc", "after=-1", "after=abc", "after=1&page=2", "limt=5", "limit=1&limit=1", "limit"]
    .map((query) => ({ path: `/users?${query}`, status: 400 })),
  { path: "/users/31", status: 404 },
  { path: "/nowhere", status: 404 },
  put("/users/31", valid, 404),
  put("/users/abc", valid, 400),
  put("/users/1", {}, 400),
  put("/users/1", { name: "Jane" }, 400),
  put("/users/1", { email: valid.email }, 400),
  put("/users/1", { ...valid, name: "" }, 400),
  put("/users/1", { ...valid, name: "x".repeat(101) }, 400),
  put("/users/1", { ...valid, name: 5 }, 400),
  put("/users/1", { ...valid, name: "a\u0000b" }, 400),
  put("/users/1", { ...valid, email: "no address" }, 400),
  put("/users/1", { ...valid, email: `${"x".repeat(95)}@a.com` }, 400),
  put("/users/1", { ...valid, bio: 5 }, 400),
  put("/users/1", { ...valid, bio: "a\u0000b" }, 400),
  put("/users/1", { ...valid, role: "admin" }, 400),
  put("/users/1", [], 400),
  put("/users/1", null, 400),
  { method: "PUT", path: "/users/1", body: "{", status: 400 },
  { method: "PUT", path: "/users/1", body: "", status: 400 },
  { method: "PUT", path: "/users/1", body: JSON.stringify(valid), type: "text/plain", status: 415 },
  put("/users/1", { ...valid, bio: "x".repeat(65 * 1024) }, 413),
  { method: "PATCH", path: "/users/1", body: '{"role":"admin"}', status: 400 },
  { method: "POST", path: "/users", body: "{}", status: 400 },
  { method: "DELETE", path: "/users/abc", status: 400 },
  { method: "DELETE", path: "/users/31", status: 404 },
];

describe("the service, given bad input,", () => {
  const stack = new AsyncDisposableStack();
  let service: Service;

  beforeAll(async () => {
    const database = stack.use(await createSeededDatabase(30));
    service = stack.use(
      await startService({ env: { REDIS_URL: "memory:", DATABASE_URL: database.url } }),
    );
  });
  afterAll(() => stack.disposeAsync());

  for (const request of badRequests) {
    const { method = "GET", path, body, type = "application/json", status } = request;
    const shown = body === undefined ? "" : ` ${type} ${body.slice(0, 60)}`;
    it(`answers ${status} to ${method} ${path}${shown}`, async () => {
      const answer = await read(() =>
        service.fetch(path, {
          method,
          ...(body === undefined ? {} : { body, headers: { "content-type": type } }),
        })
      );
      assertEquals(answer.status, status, answer.text);
      assertMatch(answer.headers.get("content-type") ?? "", /^application\/json/);
      const said = JSON.parse(answer.text);
      assertEquals(typeof said.error, "string");
      assert(said.error.length > 0);
      // Neither a stack trace nor SQL.
      assertFalse(/\bat .*:\d+:\d+|\.ts\b|SELECT|UPDATE|INSERT|node_modules/.test(answer.text));
      if (status === 400 && body !== "{" && body !== "") {
        assert(said.issues.length > 0, answer.text);
        for (const issue of said.issues) assertEquals(typeof issue.message, "string");
      }
    });
  }

  it("has changed nothing and has loaded no user by it", async () => {
    const user = await read(() => service.fetch("/users/1"));
    assertEquals(JSON.parse(user.text).data.name, "User 1");
    const before = await loads();
    for (const { path, method = "GET" } of badRequests) {
      if (method === "GET") await read(() => service.fetch(path));
    }
    // The only look-up among them that is for a possible user, and it is remembered as unknown.
    assertEquals(await loads() - before, 0);
  });

  async function loads(): Promise<number> {
    return JSON.parse((await read(() => service.fetch("/cache/stats"))).text).loads;
  }
});

function put(path: string, body: unknown, status: number): BadRequest {
  return { method: "PUT", path, body: JSON.stringify(body), status };
}
