import { assert, assertEquals, assertGreater } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fuzz } from "./fuzz.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startService } from "../../tools/servers/service.ts";
import { latin1, sendRaw } from "./wire.ts";
import { FuzzWorld } from "./world.ts";

/** `deno task test:fuzz` sends the requested number. */
const REQUESTS = 2_000;

describe("the service, sent whatever there is,", () => {
  let world: FuzzWorld;

  beforeAll(async () => {
    world = await FuzzWorld.start();
  });
  afterAll(() => world[Symbol.asyncDispose]());

  it("answers without a 5xx or a hang, and writes what is valid alone", async () => {
    const { statuses, writes, keys, raw, unanswered } = await fuzz(world, { requests: REQUESTS });
    // Requests of every kind must have been sent; otherwise nothing is shown.
    for (const status of [200, 201, 204, 400, 404, 405, 413, 415]) {
      assertGreater(statuses[status] ?? 0, 0, `no ${status}`);
    }
    assert(writes > 10 && keys > 10 && raw > 100 && unanswered < raw);
  });

  it("answers under a Host that no URL can have, clients limited or not", async () => {
    const send = (port: number, method: string) =>
      sendRaw(port, latin1(`${method} /users?limit=1 HTTP/1.1\r\nhost: no host\r\n\r\n`));
    await using limited = await startService({
      env: { REDIS_URL: "memory:", DATABASE_URL: world.databaseUrl, CLIENT_RATE_LIMIT: "1000" },
    });
    for (const { port } of [world.service, limited]) {
      // A first answer may take longer than the client waits.
      await eventually(async () => assertEquals(await send(port, "GET"), [400]));
      assertEquals(await send(port, "HEAD"), [400]);
    }
  });

  it("would be caught with a key that no valid request makes", async () => {
    const { unknown } = await world.unknownKeys();
    assertEquals(unknown, []);
    await world.redis("set", "tfuzz:1:{users:01}", "x");
    assertEquals((await world.unknownKeys()).unknown, ["tfuzz:1:{users:01}"]);
    await world.redis("del", "tfuzz:1:{users:01}");
  });

  it("would be caught with a row that validation should have stopped", async () => {
    assertEquals(await world.invalidChanges(), []);
    const [row] = await world.sql`UPDATE users SET email = 'no address' WHERE id = (
      SELECT min(id) FROM users) RETURNING id`;
    assertEquals((await world.invalidChanges()).map(({ id }) => id), [row?.id]);
  });
});
