/**
 * The service behind a pooler that gives each transaction whichever connection is free.
 */
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { startPgBouncer } from "../../tools/servers/pgbouncer_server.ts";
import { cacheInUse, type Service, startService } from "../../tools/servers/service.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";

/** Polls are ten seconds apart then: hardly ever in time. */
const NO_POLL_MS = 60_000;
const SEEN_MS_MAX = 3_000;
const POLL_MS = 200;
/** More at once than the pooler has connections. */
const AT_ONCE = 40;
const ROUNDS = 5;

/** What the service is told, by what it listens to. */
const arrangements: Readonly<Record<string, (direct: string) => Record<string, string>>> = {
  "CHANGES_DATABASE_URL past it": (direct) => ({
    CHANGES_DATABASE_URL: direct,
    CHANGES_POLL_MS: `${NO_POLL_MS}`,
  }),
  "nothing but the pooler": () => ({ CHANGES_LISTEN: "off", CHANGES_POLL_MS: `${POLL_MS}` }),
};

describe("the service behind PgBouncer in transaction mode", () => {
  for (const [name, settings] of Object.entries(arrangements)) {
    it(`answers many at once, and sees who writes past it, with ${name}`, {
      // The JSR driver has no LISTEN.
      ignore: import.meta.resolve("@db/driver").includes("deno_postgres"),
    }, async () => {
      await using stack = new AsyncDisposableStack();
      const database = stack.use(await createSeededDatabase(100));
      const bouncer = stack.use(
        await startPgBouncer(database.url, { ignore_startup_parameters: "statement_timeout" }),
      );
      const service = stack.use(
        await startService({
          env: {
            ...serviceEnv(bouncer.url),
            ...settings(database.url),
          },
        }),
      );
      await cacheInUse(service);
      const statuses = await Promise.all(
        Array.from({ length: AT_ONCE }, (_, at) => requested(service, at)),
      );
      assertEquals(new Set(statuses), new Set([200]));

      const direct = stack.adopt(postgres(database.url, { max: 1 }), (each) => each.end());
      for (let round = 0; round < ROUNDS; round++) {
        await cacheInUse(service, "/users/2");
        const name = `Round ${round}`;
        await direct`UPDATE users SET name = ${name} WHERE id = 2`;
        await eventually(async () => assertEquals(await nameOf(service, 2), name), {
          deadlineMs: SEEN_MS_MAX,
        });
      }
    });
  }
});

/** Reads a user, or writes one. */
async function requested(service: Service, at: number): Promise<number> {
  const write = {
    method: "PATCH",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: `At once ${at}` }),
  };
  const response = await service.fetch(`/users/${at + 3}`, at % 4 === 0 ? write : {});
  await response.body?.cancel();
  return response.status;
}

async function nameOf(service: Service, id: number): Promise<string> {
  return (await (await service.fetch(`/users/${id}`)).json()).data.name;
}
