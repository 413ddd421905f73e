import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import type { Logger } from "@logtape/logtape";
import postgres from "postgres";
import { ConfigError } from "../../server/config.ts";
import { databaseOptions, loadConfig } from "../../server/secrets.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { startService } from "../../tools/servers/service.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import type { TestDatabase } from "../support/test_database.ts";

describe("loadConfig()", () => {
  const folder = Deno.makeTempDirSync();
  afterAll(() => Deno.removeSync(folder, { recursive: true }));

  function file(name: string, text: string): string {
    Deno.writeTextFileSync(`${folder}/${name}`, text);
    return `${folder}/${name}`;
  }

  it("takes each secret from its file, without the line's end", () => {
    const config = loadConfig({
      ADMIN_TOKEN_FILE: file("token", "t0ken,0ld\n"),
      DATABASE_URL_FILE: file("database", "postgres://me@db/x\n"),
      DATABASE_PASSWORD_FILE: file("password", "p@ss/w\n"),
      REDIS_URL_FILE: file("redis", "redis://:pw@r\n"),
    });
    assertEquals(config.http.adminTokens, ["t0ken", "0ld"]);
    assertEquals(config.database.url, "postgres://me:p%40ss%2Fw@db/x");
    assertEquals(config.cache.url, "redis://:pw@r");
    assertEquals(Object.keys(config.secretFiles).length, 4);
  });

  it("names every file that it cannot use, and repeats nothing of what they hold", () => {
    const { message } = assertThrows(() =>
      loadConfig({
        ADMIN_TOKEN: "t",
        ADMIN_TOKEN_FILE: file("token", "p4ss"),
        DATABASE_URL_FILE: `${folder}/missing`,
        REDIS_URL_FILE: file("empty", "\n"),
      }), ConfigError);
    assertStringIncludes(message, "ADMIN_TOKEN: must be absent where ADMIN_TOKEN_FILE is set");
    assertStringIncludes(message, "DATABASE_URL_FILE: must be a file that can be read");
    assertStringIncludes(message, "REDIS_URL_FILE: must be a file that can be read: it is empty");
    assert(!message.includes("p4ss"));
  });
});

describe("a service whose secrets are in files", () => {
  const stack = new AsyncDisposableStack();
  let database: TestDatabase;
  let folder: string;

  beforeAll(async () => {
    database = stack.use(await createSeededDatabase(3));
    folder = await Deno.makeTempDir();
    stack.defer(() => Deno.remove(folder, { recursive: true }));
  });
  afterAll(() => stack.disposeAsync());

  it("takes the tokens that the file holds by then, and keeps them while it is gone", async () => {
    const path = `${folder}/token`;
    await Deno.writeTextFile(path, "first");
    const env = { DATABASE_URL: database.url, REDIS_URL: "memory:", ADMIN_TOKEN_FILE: path };
    await using service = await startService({ env });
    const statusWith = async (token: string) => {
      const headers = { authorization: `Bearer ${token}` };
      const response = await service.fetch("/cache/stats", { headers });
      await response.body?.cancel();
      return response.status;
    };
    assertEquals([await statusWith("first"), await statusWith("second")], [200, 401]);
    await Deno.writeTextFile(path, "second");
    await eventually(async () => {
      assertEquals([await statusWith("first"), await statusWith("second")], [401, 200]);
    });
    await Deno.remove(path);
    await eventually(async () => {
      assertEquals(await statusWith("second"), 200);
      assertStringIncludes(service.log, "the previous secret stays in use");
    });
  });

  it("connects with the password that the file holds by then", async () => {
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    const role = `rotated_${crypto.randomUUID().slice(0, 8)}`;
    const path = `${folder}/password`;
    const url = new URL(database.url);
    url.username = role;
    url.password = "";
    try {
      await sql.unsafe(`CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD 'first'`);
      await Deno.writeTextFile(path, "first");
      const env = { DATABASE_URL: url.href, REDIS_URL: "memory:", DATABASE_PASSWORD_FILE: path };
      await using service = await startService({ env: { ...env, CACHE: "off" } });
      await sql.unsafe(`ALTER ROLE ${role} PASSWORD 'second'`);
      await Deno.writeTextFile(path, "second");
      await sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${role}`;
      await eventually(async () => {
        const response = await service.fetch("/users/1");
        await response.body?.cancel();
        assertEquals(response.status, 200);
      });
    } finally {
      await sql.unsafe(`DROP ROLE IF EXISTS ${role}`).catch(() => undefined);
      await sql.end({ timeout: 5 });
    }
  });
});

describe("databaseOptions()", () => {
  it("says in one line which parameters of DATABASE_URL it passes over", async () => {
    const lines: unknown[] = [];
    const logger = { warn: (...line: unknown[]) => void lines.push(line) };
    const DATABASE_URL = "postgres://db/x?channel_binding=require&pgbouncer=true&sslmode=require";
    await databaseOptions(loadConfig({ DATABASE_URL }), logger as Pick<Logger, "warn">);
    assertEquals(lines.length, 1);
    assertStringIncludes(JSON.stringify(lines), "channel_binding, pgbouncer");
    await databaseOptions(loadConfig({}), logger as Pick<Logger, "warn">);
    assertEquals(lines.length, 1);
  });
});
