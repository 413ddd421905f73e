import { assert, assertEquals, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";

const POLL_MS = 60_000;
/** Long before the poll, and long after another instance has taken over. */
const TAKEN_OVER_MS_MAX = 5_000;

async function nameOf(service: Service, id: number): Promise<string> {
  return (await (await service.fetch(`/users/${id}`)).json()).data.name;
}

/** How many changes an instance has relayed. */
async function relayedBy(service: Service): Promise<number> {
  return (await (await service.fetch("/cache/stats")).json()).changes.applied;
}

describe("two instances, woken by whoever writes", () => {
  it("relay once, and the other takes over when one is stopped, long before the poll", {
    // The JSR driver has no LISTEN: there the poll is all there is.
    ignore: import.meta.resolve("@db/driver").includes("deno_postgres"),
  }, async () => {
    await using stack = new AsyncDisposableStack();
    const database = stack.use(await createSeededDatabase(10));
    const env = {
      ...serviceEnv(database.url),
      CHANGES_POLL_MS: String(POLL_MS),
    };
    const services = [
      stack.use(await startService({ env })),
      stack.use(await startService({ env })),
    ] as const;
    const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    stack.defer(() => sql.end());
    for (const service of services) await cacheInUse(service);

    let name = "";
    /** Writes past the service, and answers for how long an instance goes on with the old name. */
    const staleMs = async (reader: Service): Promise<number> => {
      await cacheInUse(reader, "/users/2");
      name = `Name ${crypto.randomUUID()}`;
      await sql`UPDATE users SET name = ${name} WHERE id = 2`;
      const committedAtMs = performance.now();
      await eventually(async () => assertEquals(await nameOf(reader, 2), name), {
        deadlineMs: 2 * POLL_MS,
        everyMs: 5,
      });
      return performance.now() - committedAtMs;
    };
    for (const reader of services) assertLess(await staleMs(reader), TAKEN_OVER_MS_MAX);
    const counts = await Promise.all(services.map(relayedBy));
    assertEquals(counts.reduce((sum, count) => sum + count), 2);

    // Whoever relays, the other has to once it is stopped.
    for (const [stopped, other] of [services, services.toReversed()]) {
      assert(stopped !== undefined && other !== undefined);
      stopped.pause();
      try {
        assertLess(await staleMs(other), TAKEN_OVER_MS_MAX);
      } finally {
        stopped.resume();
      }
      await eventually(async () => assertEquals(await nameOf(stopped, 2), name));
    }
  });
});
