import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { createApi, CREATED_AT, userJson } from "./api_fixture.ts";

const fields = { name: "Jane", email: "jane@example.com", bio: "New" };

const invalidations = ["delete users:5", "invalidateTags users:5 users:any"];

describe("PUT /users/:id", () => {
  it("replaces every field, says so, and is seen by the next read", async () => {
    await using api = createApi();
    await api.send("/users/5");
    await api.send("/users");
    const answer = await api.send("/users/5", { method: "PUT", body: fields });
    assertEquals(answer.status, 200);
    assertEquals(await answer.json(), {
      message: "User updated and cache invalidated",
      data: { id: 5, ...fields, created_at: CREATED_AT },
    });
    assertEquals(answer.headers.get("lookaside-invalidation"), "applied");
    assertEquals(api.cache.calls.slice(2), invalidations);
    const read = await (await api.send("/users/5")).json();
    assertEquals([read.source, read.data.name], ["database", "Jane"]);
    const page = await (await api.send("/users")).json();
    assertEquals([page.source, page.data[4].name], ["database", "Jane"]);
  });

  it("takes a bio that is null or missing for none", async () => {
    await using api = createApi();
    for (const body of [{ ...fields, bio: null }, { name: "Jane", email: fields.email }]) {
      const answer = await api.send("/users/5", { method: "PUT", body });
      assertEquals((await answer.json()).data.bio, null);
    }
  });

  it("counts characters as Postgres does, not UTF-16 code units", async () => {
    await using api = createApi();
    const name = "👍".repeat(100);
    const answer = await api.send("/users/5", { method: "PUT", body: { ...fields, name } });
    assertEquals((await answer.json()).data.name, name);
  });

  for (
    const email of ["a@b.co", "first.last+tag@sub.example.com", "jürgen@müller.de", "o'neil@x-y.io"]
  ) {
    it(`takes ${email} for an address`, async () => {
      await using api = createApi();
      const answer = await api.send("/users/5", { method: "PUT", body: { ...fields, email } });
      assertEquals(answer.status, 200, await answer.text());
    });
  }

  it("takes a body of exactly 64 KiB", async () => {
    await using api = createApi();
    const empty = JSON.stringify({ ...fields, bio: "" }).length;
    const body = JSON.stringify({ ...fields, bio: "x".repeat(64 * 1024 - empty) });
    assertEquals((await api.send("/users/5", { method: "PUT", body })).status, 200);
  });

  for (
    const type of [
      "application/json;charset=utf-8",
      "Application/JSON; Charset=UTF-8",
      'application/json; charset="utf-8"',
      "application/json;",
      "application/json; charset=utf8;",
    ]
  ) {
    it(`takes a body of type ${type}`, async () => {
      await using api = createApi();
      const headers = { "content-type": type };
      const answer = await api.send("/users/5", { method: "PUT", body: fields, headers });
      assertEquals(answer.status, 200);
    });
  }

  it("invalidates after the write and before the answer", async () => {
    await using api = createApi();
    const replace = api.users.replace.bind(api.users);
    const order: string[] = [];
    api.users.replace = async (id, changes) => {
      const user = await replace(id, changes);
      order.push(`written, ${api.cache.calls.length} calls of the cache before`);
      return user;
    };
    const { invalidateTags } = api.cache;
    api.cache.invalidateTags = async (...tags) => {
      await api.clock.advance(5);
      const outcome = await invalidateTags(...tags);
      order.push("invalidated");
      return outcome;
    };
    await api.send("/users/5", { method: "PUT", body: fields });
    order.push("answered");
    assertEquals(order, ["written, 0 calls of the cache before", "invalidated", "answered"]);
  });

  it("says so when Redis has not taken the invalidation yet", async () => {
    await using api = createApi();
    api.cache.invalidation = "pending";
    const answer = await api.send("/users/5", { method: "PUT", body: fields });
    assertEquals(answer.status, 200);
    assertEquals((await answer.json()).message, "User updated; cache invalidation pending");
    assertEquals(answer.headers.get("lookaside-invalidation"), "pending");
    assertEquals(api.errors, []);
  });

  it("answers the write that stands even if invalidating throws, and reports the error", async () => {
    await using api = createApi();
    api.cache.invalidation = new Error("out of order");
    const answer = await api.send("/users/5", { method: "PUT", body: fields });
    assertEquals(answer.status, 200);
    assertEquals((await answer.json()).message, "User updated; cache invalidation pending");
    assertEquals(api.errors.map(({ error }) => error), Array(2).fill(api.cache.invalidation));
  });
});

describe("PATCH /users/:id", () => {
  it("overwrites the fields that are given and no other", async () => {
    await using api = createApi();
    for (const [body, changed] of [[{ name: "Jane" }, {}], [{ bio: null }, { name: "Jane" }]]) {
      const answer = await api.send("/users/5", { method: "PATCH", body });
      assertEquals(answer.status, 200);
      assertEquals(await answer.json(), {
        message: "User updated and cache invalidated",
        data: { ...userJson(5), ...changed, ...body },
      });
    }
    assertEquals(api.cache.calls, [...invalidations, ...invalidations]);
  });
});

describe("POST /users", () => {
  it("creates a user, says where, and forgets that there was none", async () => {
    await using api = createApi();
    assertEquals((await api.send("/users/31")).status, 404);
    const answer = await api.send("/users", { method: "POST", body: fields });
    assertEquals(answer.status, 201);
    assertEquals(answer.headers.get("location"), "/users/31");
    assertEquals(await answer.json(), {
      message: "User created and cache invalidated",
      data: { id: 31, ...fields, created_at: CREATED_AT },
    });
    assertEquals((await api.send("/users/31")).status, 200);
  });
});

describe("DELETE /users/:id", () => {
  it("deletes a user, answers 204, and the next read is 404", async () => {
    await using api = createApi();
    await api.send("/users/5");
    const answer = await api.send("/users/5", { method: "DELETE" });
    assertEquals([answer.status, answer.body], [204, null]);
    assertEquals(answer.headers.get("lookaside-invalidation"), "applied");
    assertEquals(api.cache.calls.slice(1), invalidations);
    assertEquals((await api.send("/users/5")).status, 404);
    assertEquals((await api.send("/users/5", { method: "DELETE" })).status, 404);
  });

  it("says in a header that the invalidation is pending", async () => {
    await using api = createApi();
    api.cache.invalidation = "pending";
    const answer = await api.send("/users/5", { method: "DELETE" });
    assertEquals([answer.status, answer.headers.get("lookaside-invalidation")], [204, "pending"]);
  });
});

describe("a write to a user that does not exist", () => {
  for (const method of ["PUT", "PATCH", "DELETE"]) {
    it(`answers 404 to ${method} and invalidates nothing`, async () => {
      await using api = createApi();
      const init = method === "DELETE" ? { method } : { method, body: fields };
      const answer = await api.send("/users/31", init);
      assertEquals(answer.status, 404);
      assertEquals(await answer.json(), { error: "User not found" });
      assertEquals(api.cache.calls, []);
    });
  }
});
