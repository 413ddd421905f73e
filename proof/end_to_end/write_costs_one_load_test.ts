/**
 * The mark that a write of the service carries, by which relays leave to it what it has invalidated itself, on
 * a ring: there a process deletes a key on one server, and every server has relays and tags of its own.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { startRedisRing } from "../../tools/servers/redis_ring.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";

const USERS = 50;
const ROUNDS = 6;
/** Far fewer than where relays invalidate again what was loaded. */
const LOADS_MORE_MAX = 20;
const IDS = Array.from({ length: USERS }, (_, at) => at + 1);

describe("a write through the service", () => {
  for (const nodes of [1, 3]) {
    it(`costs one load, and leaves nothing stale, on a ring of ${nodes}`, async () => {
      await using stack = new AsyncDisposableStack();
      const ring = stack.use(await startRedisRing(nodes));
      const database = stack.use(await createSeededDatabase(USERS));
      const env = {
        REDIS_URL: ring.serviceUrl,
        DATABASE_URL: database.url,
        CACHE_PREFIX: `t${crypto.randomUUID().slice(0, 8)}`,
        REDIS_COMMAND_TIMEOUT_MS: "2000",
        DATABASE_POOL_MAX: "5", // 40 connections at once take a busy machine longer than they may
      };
      const services = await Promise.all(
        [1, 2].map(async () => stack.use(await startService({ env }))),
      );
      // Writers keep their time to invalidate, however busy the machine is.
      const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
      stack.defer(() => sql.end());
      await sql`ALTER TABLE lookaside.outbox
        ALTER created_at SET DEFAULT clock_timestamp() + INTERVAL '1 hour'`;
      for (const each of services) await cacheInUse(each);
      for (const id of IDS) await Promise.all(services.map((each) => sourceOf(each, id)));
      await sourceOfPage(services[0] as Service);
      const before = await loadsOf(services);
      for (let round = 0; round < ROUNDS; round++) {
        const name = `Round ${round}`;
        // One of the two relays, and knows of its own writes; of the other's it is told.
        const writer = services[round % 2] as Service;
        await Promise.all(IDS.map(async (id) => {
          await rename(writer, id, name);
          assertEquals(await sourceOf(writer, id, name), "database");
        }));
        assertEquals(await sourceOfPage(writer, name), "database");
        // By then the relays of all servers have gone through the writes.
        await eventually(async () => assertEquals((await stats(writer)).changes.backlog, 0));
        for (const each of services) {
          // The other one's memory is told a moment later. Who loads meanwhile is counted.
          await eventually(async () => {
            const all = [...IDS.map((id) => sourceOf(each, id, name)), sourceOfPage(each, name)];
            assertEquals((await Promise.all(all)).filter((source) => source !== "cache"), []);
          });
        }
      }
      // All but a few on a machine so busy that Redis does not answer in time.
      const more = await loadsOf(services) - before - (USERS + 1) * ROUNDS;
      assert(more >= 0 && more < LOADS_MORE_MAX, `${more} loads more than writes`);
    });
  }
});

async function sourceOf(service: Service, id: number, name?: string): Promise<string> {
  const { source, data } = await (await service.fetch(`/users/${id}`)).json();
  if (name !== undefined) assertEquals(data.name, name);
  return source;
}

async function sourceOfPage(service: Service, name?: string): Promise<string> {
  const { source, data } = await (await service.fetch("/users?page=1&limit=5")).json();
  if (name !== undefined) {
    assertEquals(data.map((user: { name: string }) => user.name), Array(5).fill(name));
  }
  return source;
}

async function rename(service: Service, id: number, name: string): Promise<void> {
  const response = await service.fetch(`/users/${id}`, {
    method: "PATCH",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  });
  const text = await response.text();
  assertEquals(response.status, 200, `${text}\n${service.log}`);
  assertEquals(JSON.parse(text).data.name, name);
}

async function stats(service: Service): Promise<{ loads: number; changes: { backlog: number } }> {
  return await (await service.fetch("/cache/stats")).json();
}

async function loadsOf(services: readonly Service[]): Promise<number> {
  const all = await Promise.all(services.map(stats));
  return all.reduce((sum, { loads }) => sum + loads, 0);
}
