import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { connect } from "@db/driver";
import { eventually } from "../../tools/servers/eventually.ts";
import {
  type PostgresServer,
  startPostgres,
  startStandby,
} from "../../tools/servers/postgres_server.ts";
import { type Service, startService } from "../../tools/servers/service.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";

describe("the service on a primary and its standby", {
  // The JSR driver takes one host.
  ignore: import.meta.resolve("@db/driver").includes("deno_postgres"),
}, () => {
  const stack = new AsyncDisposableStack();
  let primary: PostgresServer;
  let standby: PostgresServer;
  let service: Service;
  let database: string;

  beforeAll(async () => {
    primary = stack.use(await startPostgres());
    const created = await createSeededDatabase(10, primary.url);
    database = created.name;
    standby = stack.use(await startStandby(primary));
    service = stack.use(
      await startService({
        env: serviceEnv(
          `postgres://postgres@127.0.0.1:${standby.port},127.0.0.1:${primary.port}/${database}` +
            "?target_session_attrs=read-write&channel_binding=prefer",
        ),
      }),
    );
  });
  afterAll(() => stack.disposeAsync());

  async function write(bio: string): Promise<Response> {
    const response = await service.fetch("/users/1", {
      method: "PATCH",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ bio }),
    });
    await response.body?.cancel();
    return response;
  }

  async function bioOf(id: number): Promise<string> {
    return (await (await service.fetch(`/users/${id}`)).json()).data.bio;
  }

  it("writes to the primary, answers 503 while there is none, and writes to the one that is promoted", async () => {
    assertEquals((await write("before")).status, 200);
    assertEquals(await bioOf(1), "before");
    await primary.kill();
    const refused = await write("meanwhile");
    assertEquals(refused.status, 503);
    assert(Number(refused.headers.get("retry-after")) > 0);
    // The standby has the row, and is not asked for it.
    const uncached = await service.fetch("/users/9");
    await uncached.body?.cancel();
    assertEquals(uncached.status, 503);

    await promote(standby);
    await using promoted = connect({ url: standby.urlOf(database), poolMax: 1 });
    const seen = new Set<number>();
    await eventually(async () => {
      const { status } = await write("after");
      seen.add(status);
      assertEquals(status, 200);
    });
    assertMatch([...seen].join(), /^(503,)?200$/);
    assertEquals(await bioOf(1), "after");
    await service.fetch("/users/2").then((response) => response.body?.cancel());
    await promoted.query("UPDATE users SET bio = 'by another program' WHERE id = 2");
    await eventually(async () => assertEquals(await bioOf(2), "by another program"));
  });
});

/** Makes a standby a primary. */
async function promote(server: PostgresServer): Promise<void> {
  const { default: postgres } = await import("postgres");
  const sql = postgres(server.url, { max: 1 });
  try {
    await sql`SELECT pg_promote()`;
  } finally {
    await sql.end();
  }
}
