import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import postgres from "postgres";
import { eventually } from "../../tools/servers/eventually.ts";
import { read } from "../support/load.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { type Service, startService } from "../../tools/servers/service.ts";

const OPEN_FILES_MAX = 200;

describe("the service, when it may open no more files,", () => {
  it("closes idle connections, answers what was asked, and goes on", async () => {
    await using database = await createSeededDatabase(10);
    const env = { REDIS_URL: "memory:", DATABASE_URL: database.url };
    await using service = await startService({ env });
    await limitFiles(service.pid);
    const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
    const locker = await sql.reserve();
    await locker`BEGIN`;
    await locker`LOCK TABLE users IN ACCESS EXCLUSIVE MODE`;
    let answered = false;
    const asked = read(() => service.fetch("/users/1")).finally(() => answered = true);
    await eventually(async () => {
      const [row] = await locker`SELECT count(*)::int AS waiting FROM pg_locks WHERE NOT granted`;
      assertGreater(row?.waiting, 0);
    });
    const idle = await openIdle(service, 2 * OPEN_FILES_MAX);
    try {
      await eventually(() => assert(/Cannot accept connections/.test(service.log), service.log));
      await eventually(async () => {
        assertEquals((await read(() => service.fetch("/healthz"))).status, 200);
      });
      assertEquals(answered, false);
      await locker`COMMIT`;
      locker.release();
      assertEquals((await asked).status, 200);
    } finally {
      for (const connection of idle) connection.close();
      await sql.end({ timeout: 5 });
    }
    assertEquals(await service.stop(), 0, service.log);
  });
});

/** As `ulimit -n` would have done before the start. */
async function limitFiles(pid: number): Promise<void> {
  const { success, stderr } = await new Deno.Command("prlimit", {
    args: ["--pid", String(pid), `--nofile=${OPEN_FILES_MAX}:${OPEN_FILES_MAX}`],
  }).output();
  assert(success, new TextDecoder().decode(stderr));
}

/** Connections that send nothing. Those that are refused, or closed before their address is asked for, are left out. */
async function openIdle(service: Service, count: number): Promise<Deno.Conn[]> {
  const open: Deno.Conn[] = [];
  for (let i = 0; i < count; i++) {
    try {
      open.push(await Deno.connect({ hostname: "127.0.0.1", port: service.port }));
    } catch (error) {
      const { ConnectionRefused, ConnectionReset, NotConnected } = Deno.errors;
      const isClosed = [ConnectionRefused, ConnectionReset, NotConnected].some((type) =>
        error instanceof type
      );
      if (!isClosed) throw error;
    }
  }
  return open;
}
