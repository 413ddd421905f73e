/**
 * The examples on every runtime that the packages promise, from the packages as npm has them.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { join } from "node:path";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { type RedisServer, startRedis } from "../../tools/servers/redis_server.ts";
import { ServerProcess } from "../../tools/servers/server_process.ts";
import { createTestDatabase, type TestDatabase } from "../../tests/support/test_database.ts";
import {
  installExample,
  type Program,
  run,
  runtimeProgram,
  RUNTIMES,
} from "../../tests/support/installed.ts";

/** The servers of one run: with nothing of another's in them. */
interface Servers extends AsyncDisposable {
  readonly sql: postgres.Sql;
  readonly env: Readonly<Record<string, string>>;
}

async function startServers(): Promise<Servers> {
  await using stack = new AsyncDisposableStack();
  const database: TestDatabase = stack.use(await createTestDatabase());
  const redis: RedisServer = stack.use(await startRedis());
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  stack.defer(() => sql.end());
  await sql`CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT, total INT)`;
  await sql`INSERT INTO orders SELECT n, 1 + n % 7, 0 FROM generate_series(1, 100) n`;
  const moved = stack.move();
  return {
    sql,
    env: { DATABASE_URL: database.url, REDIS_URL: redis.url },
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** Declares a suite over one example: a test for each runtime. */
function describeExample(
  name: string,
  title: string,
  test: (place: { readonly program: Program; readonly folder: string }) => Promise<void>,
): void {
  describe(`examples/${name}`, () => {
    let folder = "";
    beforeAll(async () => {
      folder = await installExample(name);
    });
    afterAll(() => Deno.remove(folder, { recursive: true }));
    for (const runtime of RUNTIMES) {
      it(`${title}, on ${runtime}`, async () => {
        await test({ program: await runtimeProgram(runtime, folder), folder });
      });
    }
  });
}

describeExample("hono", "answers from the cache until others write", async (place) => {
  await using servers = await startServers();
  const port = freePort();
  await using server = new ServerProcess({
    command: place.program.command,
    args: [...place.program.args, join(place.folder, "main.js")],
    env: { ...servers.env, PORT: `${port}` },
    ready: async (process) => {
      await process.lineMatching(/listening/);
    },
  });
  await server.start();
  const get = async (path = "/customers/1/orders") => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    const text = await response.text();
    return { text, status: response.status, from: response.headers.get("cache-status") ?? "" };
  };
  await eventually(async () => assertMatch((await get()).from, /hit;.*detail=memory/));
  await servers.sql`UPDATE orders SET total = 7 WHERE customer_id = 1`;
  await eventually(async () => {
    const totals = (JSON.parse((await get()).text) as { total: number }[]).map((row) => row.total);
    assertEquals(new Set(totals), new Set([7]));
  });
  await eventually(async () => assertMatch((await get()).from, /hit;.*detail=memory/));
  assertEquals((await get("/customers/0/orders")).status, 404);
});

describeExample("drizzle", "reads what its transaction has written", async (place) => {
  await using servers = await startServers();
  const sold = async () =>
    await run(place.program.command, [...place.program.args, join(place.folder, "main.js")], {
      cwd: place.folder,
      env: servers.env,
    });
  assertMatch(await sold(), /^the best customer is \d with 0\nafter a sale it is 1 with 1000\n/);
  await servers.sql`UPDATE orders SET total = 5000 WHERE id = 1`;
  await eventually(async () => {
    await servers.sql`UPDATE orders SET total = 0 WHERE id = 42`;
    const text = await sold();
    assertMatch(text, /^the best customer is 2 with 5000\nafter a sale it is 2 with 5000\n/);
    assertMatch(text, /^[12] of 3 queries answered from the cache$/m);
  });
});

describeExample("report", "makes the report again when it is no longer right", async (place) => {
  await using servers = await startServers();
  const read = async () =>
    await run(place.program.command, [...place.program.args, join(place.folder, "main.js")], {
      cwd: place.folder,
      env: servers.env,
    });
  assertMatch(await read(), /^(customer \d: \d+ orders, 0\n){3}made now\n$/);
  await eventually(async () => assertMatch(await read(), /^from redis$/m));
  await servers.sql`UPDATE orders SET total = 9 WHERE id = 42`;
  assertMatch(await read(), /^customer 1: 14 orders, 9\n[^]*made now\n$/);
});
