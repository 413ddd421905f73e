import { assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { startConnectionLoad } from "../support/connection_load.ts";
import { read } from "../support/load.ts";
import type { TestDatabase } from "../support/test_database.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { serviceEnv } from "../support/service_env.ts";
import { startService } from "../../tools/servers/service.ts";

describe("the service, on a signal to stop,", () => {
  const stack = new AsyncDisposableStack();
  let database: TestDatabase;
  let env: Record<string, string>;

  beforeAll(async () => {
    database = stack.use(await createSeededDatabase(100));
    env = serviceEnv(database.url);
  });
  afterAll(() => stack.disposeAsync());

  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`finishes the requests that wait for the database and exits 0 (${signal})`, async () => {
      await using service = await startService({ env: { ...env, REDIS_URL: "memory:" } });
      const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
      try {
        const locker = await sql.reserve();
        await locker`BEGIN`;
        await locker`LOCK TABLE users IN ACCESS EXCLUSIVE MODE`;
        const answers = Promise.all(
          Array.from({ length: 20 }, (_, at) => read(() => service.fetch(`/users/${at + 1}`))),
        );
        await eventually(async () => {
          const rows = await locker`SELECT count(*)::int AS waiting FROM pg_locks
            WHERE NOT granted AND database = (
              SELECT oid FROM pg_database WHERE datname = current_database())`;
          assertGreater(rows[0]?.waiting, 0);
        });
        service.signal(signal);
        await eventually(async () => {
          const late = await read(() => service.fetch("/healthz"));
          assertEquals(late.status, 0, "still accepts connections");
        });
        await locker`COMMIT`;
        locker.release();
        const statuses = (await answers).map(({ status }) => status);
        assertEquals(statuses, Array(20).fill(200), service.log);
        assertEquals((await service.exited()).code, 0, service.log);
      } finally {
        await sql.end({ timeout: 5 });
      }
    });
  }

  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    it(`loses no request, of new connections or kept ones, and exits 0 (${signal})`, async () => {
      await using service = await startService({ env });
      const path = (n: number) => n % 10 === 0 ? "/users?limit=100" : `/users/${n % 100 + 1}`;
      await using load = startConnectionLoad({ port: service.port, path, fresh: 2, kept: 8 });
      await eventually(() => assertGreater(load.result.kept, 500));
      service.signal(signal);
      const { code } = await service.exited();
      const { failures, toldToClose } = await load.stop();
      // Not to be let in any more is no loss.
      assertEquals(failures.filter((text) => !/, connect: .*refused/i.test(text)), [], service.log);
      assertGreater(toldToClose, 8);
      assertEquals(code, 0, service.log);
    });
  }

  it("loses no write whose body is longer than a packet", async () => {
    await using service = await startService({ env: { ...env, ADMIN_RATE_LIMIT: "0" } });
    await using load = startConnectionLoad({
      port: service.port,
      path: (n) => `/users/${n % 100 + 1}`,
      body: JSON.stringify({ bio: "x".repeat(50_000) }),
      fresh: 2,
      kept: 8,
    });
    await eventually(() => assertGreater(load.result.kept, 50));
    service.signal("SIGTERM");
    const { code } = await service.exited();
    const { failures } = await load.stop();
    assertEquals(failures.filter((text) => !/, connect: .*refused/i.test(text)), [], service.log);
    assertEquals(code, 0, service.log);
  });

  it("finishes a write whose body arrives slowly", async () => {
    await using service = await startService({ env: { ...env, SHUTDOWN_TIMEOUT_MS: "60000" } });
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: service.port });
    const send = (text: string) => connection.write(new TextEncoder().encode(text));
    const body = '{"bio":"slowly"}';
    await send("PATCH /users/1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    await send(`content-length: ${body.length}\r\n\r\n`);
    service.signal("SIGTERM");
    for (const letter of body) {
      await send(letter);
      await delay(100);
    }
    const answer = await new Response(connection.readable).text();
    assertMatch(answer, /^HTTP\/1\.1 200 /, service.log);
    assertEquals((await service.exited()).code, 0, service.log);
  });

  it("asks for a write again whose body does not arrive in time", async () => {
    await using service = await startService({ env: { ...env, SHUTDOWN_TIMEOUT_MS: "3000" } });
    using connection = await Deno.connect({ hostname: "127.0.0.1", port: service.port });
    const head = "PATCH /users/1 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    await connection.write(new TextEncoder().encode(`${head}content-length: 99\r\n\r\n{"bio":`));
    service.signal("SIGTERM");
    const answer = await new Response(connection.readable).text(); // until the service exits
    assertMatch(answer, /^HTTP\/1\.1 408 [^]*\r\nconnection: close\r\n/i, service.log);
    assertEquals((await service.exited()).code, 0, service.log);
  });

  it("is quick where nobody asks", async () => {
    await using service = await startService({ env });
    const startedAtMs = performance.now();
    assertEquals(await service.stop(), 0, service.log);
    assertLess(performance.now() - startedAtMs, 8_000);
  });
});
