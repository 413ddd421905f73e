import { assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { read } from "../support/load.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";

/** Longer than memory may be trusted without news of Redis, with room for a busy machine. */
const lagMsMax = 2_000;

describe("two instances on one Redis", () => {
  const stack = new AsyncDisposableStack();
  let here: Service;
  let there: Service;

  beforeAll(async () => {
    const database = stack.use(await createSeededDatabase(10));
    const env = serviceEnv(database.url);
    here = stack.use(await startService({ env }));
    there = stack.use(await startService({ env }));
    for (const service of [here, there]) await cacheInUse(service, "/users/10");
  });
  afterAll(() => stack.disposeAsync());

  it("share what one has loaded", async () => {
    assertEquals((await user(here, 1)).source, "database");
    // Loaded here and never there.
    assertEquals((await user(there, 1)).source, "cache");
  });

  it("see each other's writes, at once where they were made", async () => {
    for (let round = 0; round < 10; round++) {
      const [writer, reader] = round % 2 === 0 ? [here, there] : [there, here];
      // Read until both hold it, in memory if they have one.
      for (let read = 0; read < 3; read++) await Promise.all([user(here, 2), user(there, 2)]);
      const name = `Round ${round}`;
      await rename(writer, 2, name);
      assertEquals((await user(writer, 2)).data.name, name);
      await eventually(async () => assertEquals((await user(reader, 2)).data.name, name), {
        deadlineMs: lagMsMax,
      });
      // Once seen, it stays.
      assertEquals((await user(reader, 2)).data.name, name);
    }
  });

  it("see each other's writes in list pages", async () => {
    await Promise.all([page(here), page(there)]);
    await page(there);
    await rename(here, 3, "On the page");
    assertEquals((await page(here))[2]?.name, "On the page");
    await eventually(async () => assertEquals((await page(there))[2]?.name, "On the page"), {
      deadlineMs: lagMsMax,
    });
  });

  it("see that the cache was cleared by the other", async () => {
    await user(there, 4);
    await cacheInUse(there, "/users/4");
    await read(() => here.fetch("/cache", { method: "DELETE" }));
    assertEquals((await user(here, 4)).source, "database");
  });
});

interface User {
  readonly name: string;
}

async function user(service: Service, id: number): Promise<{ source: string; data: User }> {
  const answer = await read(() => service.fetch(`/users/${id}`));
  assertEquals(answer.status, 200, answer.text);
  return JSON.parse(answer.text);
}

async function page(service: Service): Promise<User[]> {
  return (await pageSource(service)).data;
}

async function pageSource(service: Service): Promise<{ source: string; data: User[] }> {
  const answer = await read(() => service.fetch("/users?page=1&limit=5"));
  assertEquals(answer.status, 200, answer.text);
  return JSON.parse(answer.text);
}

async function rename(service: Service, id: number, name: string): Promise<void> {
  const answer = await read(() =>
    service.fetch(`/users/${id}`, {
      method: "PUT",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name, email: "user@example.com" }),
    })
  );
  assertEquals(answer.status, 200, answer.text);
}
