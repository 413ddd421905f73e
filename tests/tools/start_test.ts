import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { parseConfig } from "../../server/config.ts";
import { productionFlags } from "../../tools/permissions.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { START_ARGS, startByCommand } from "../../tools/servers/start_command.ts";
import { requiredEnv, type TestDatabase } from "../support/test_database.ts";
import { assertAllEnd, descendantsOf } from "../support/process_tree.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

describe("deno task start", () => {
  let database: TestDatabase;

  beforeAll(async () => {
    database = await createSeededDatabase(10);
  });
  afterAll(async () => await database[Symbol.asyncDispose]());

  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
    it(`serves with exactly the computed permissions and ends with 0 on ${signal}`, async () => {
      const env = {
        HOST: "127.0.0.1",
        PORT: String(freePort()),
        REDIS_URL: requiredEnv("REDIS_URL"),
        DATABASE_URL: database.url,
        CACHE_PREFIX: `t${freePort()}`,
      };
      await using service = await startByCommand(env);
      const children = await descendantsOf(service.pid);
      assertEquals(children.length, 1);
      const { stdout } = await new Deno.Command("ps", {
        args: ["-ww", "-o", "args=", "-p", String(children[0])],
      }).output();
      const [, ...args] = new TextDecoder().decode(stdout).trim().split(" ");
      const flags = productionFlags(parseConfig(env));
      assertEquals(args, ["run", ...flags, "main.ts", `--with-parent=${service.pid}`]);

      service.signal(signal);
      assertEquals((await service.exited()).code, 0, service.log);
      await assertAllEnd(children);
    });
  }

  for (const victim of ["deno task", "tools/start.ts"] as const) {
    it(`leaves the port free when ${victim} is killed`, async () => {
      const env = { PORT: String(freePort()), REDIS_URL: "memory:", DATABASE_URL: database.url };
      await using service = await startByCommand(env, { args: ["task", "start"] });
      const below = await descendantsOf(service.pid);
      assertEquals(below.length, 2);
      if (victim === "deno task") await service.kill();
      else Deno.kill(below[0] ?? 0, "SIGKILL");
      await assertAllEnd(below);
      Deno.listen({ hostname: "127.0.0.1", port: Number(env.PORT) }).close();
    });
  }

  it("names every problem of the configuration, shows no value and ends with 2", async () => {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...START_ARGS],
      env: { PORT: "p4ss", REDIS_URL: "p4ss" },
    }).output();
    const text = new TextDecoder().decode(stderr);
    assertEquals(code, 2, text);
    assertMatch(text, /PORT: must be.*\n.*REDIS_URL: must be/);
    assert(!/p4ss|\n {4}at /.test(text), text);
  });

  it("ends with 1 and says why when the port is in use", async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [...START_ARGS],
      env: { PORT: String(listener.addr.port), REDIS_URL: "memory:", DATABASE_URL: database.url },
    }).output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertEquals(code, 1, text);
    assertMatch(text, /"level":"FATAL".*Cannot listen at 127\.0\.0\.1:\d+: the port is in use/);
  });

  // Several processes say what one says.
  for (const [workers, count] of [["1", 3], ["2", 1]] as const) {
    it(`ends and says what to do when Postgres refuses for good (WORKERS=${workers})`, async () => {
      const nobody = new URL(database.url);
      nobody.username = "nobody_of_that_name";
      const nowhere = new URL(database.url);
      nowhere.pathname = "/database_of_no_name";
      const empty = new URL(database.url);
      empty.pathname = "/postgres";
      const cases = [
        [nobody, /Cannot serve: .*nobody_of_that_name.*\. Is DATABASE_URL right\?/],
        [nowhere, /Cannot serve: .*database_of_no_name.*`deno task seed` makes the database/],
        [empty, /Cannot serve.*users.* does not exist.*`deno task seed` makes the database/],
      ] as const;
      // At the same time, because each tries again for seconds before it gives up.
      await Promise.all(
        cases.slice(0, count).map(async ([url, message]) => {
          const text = await endOf({
            WORKERS: workers,
            PORT: String(freePort()),
            REDIS_URL: requiredEnv("REDIS_URL"),
            CACHE_PREFIX: `t${freePort()}`,
            DATABASE_URL: url.href,
          });
          assertMatch(text, message);
          assert(!text.includes(" at "), text);
        }),
      );
    });
  }

  it("ends and says what to do when it may not read the outbox", async () => {
    const role = `reader_${crypto.randomUUID().slice(0, 8)}`;
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    try {
      await sql.unsafe(`CREATE ROLE ${role} LOGIN; GRANT ALL ON users TO ${role}`);
      const url = new URL(database.url);
      url.username = role;
      const text = await endOf({
        PORT: String(freePort()),
        REDIS_URL: requiredEnv("REDIS_URL"),
        CACHE_PREFIX: `t${freePort()}`,
        DATABASE_URL: url.href,
      });
      assertMatch(
        text,
        /Cannot serve: .*permission denied.*\. Grant that to the user of DATABASE_URL/,
      );
      const [refusedMs, listeningMs] = [/permission denied/, /listening on/].map((message) => {
        const line = text.split("\n").find((line) => message.test(line)) ?? "{}";
        return Date.parse(JSON.parse(line)["@timestamp"]);
      });
      assertLess(Number(listeningMs) - Number(refusedMs), 4_500, "it waited for Redis in vain");
    } finally {
      await sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`).catch(() => undefined);
      await sql.end({ timeout: 5 });
    }
  });

  it("ends and names the address that the permissions of an image do not list", async () => {
    const port = freePort();
    const flags = productionFlags(parseConfig({ PORT: String(port), REDIS_URL: "memory:" }));
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", ...flags, "main.ts"],
      cwd: root,
      env: { PORT: String(port), REDIS_URL: "memory:", DATABASE_URL: "postgres://db.example/x" },
      signal: AbortSignal.timeout(20_000),
    }).output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertEquals(code, 1, text);
    assertMatch(text, /"FATAL".*permissions of this process do not list db\.example/);
  });

  it("serves as a role that has the documented rights and no others", async () => {
    const page = await Deno.readTextFile(
      new URL("../../docs/operations/access.md", import.meta.url),
    );
    const [, grants = ""] = /```sql\n(CREATE ROLE [^`]*)```/.exec(page) ?? [];
    const role = `app_${crypto.randomUUID().slice(0, 8)}`;
    const sql = postgres(database.url, { max: 1, onnotice: () => {} });
    try {
      await sql.unsafe(grants.replaceAll("lookaside_service", role));
      const url = new URL(database.url);
      url.username = role;
      const env = {
        PORT: String(freePort()),
        REDIS_URL: requiredEnv("REDIS_URL"),
        ADMIN_OPEN: "on",
        CACHE_PREFIX: `t${freePort()}`,
        DATABASE_URL: url.href,
      };
      await using service = await startByCommand(env);
      const ask = async (path: string, init?: RequestInit) => {
        const response = await fetch(`http://127.0.0.1:${env.PORT}${path}`, init);
        return { status: response.status, text: await response.text() };
      };
      const headers = { "content-type": "application/json" };
      const body = JSON.stringify({ name: "A", email: "a@example.com", bio: "of its own" });
      assertEquals((await ask("/users", { method: "POST", headers, body })).status, 201);
      assertEquals((await ask("/users/1", { method: "PUT", headers, body })).status, 200);
      assertEquals((await ask("/users/2", { method: "DELETE" })).status, 204);
      await ask("/users/3");
      await sql`UPDATE users SET bio = 'written by another' WHERE id = 3`;
      await eventually(async () => {
        assertMatch((await ask("/users/3")).text, /written by another/);
      });
      assert(!/permission denied/.test(service.log), service.log);
      assertEquals(await service.stop(), 0, service.log);
    } finally {
      await sql.unsafe(`DROP OWNED BY ${role}; DROP ROLE ${role}`).catch(() => undefined);
      await sql.end({ timeout: 5 });
    }
  });

  for (const several of [{ REDIS_URL: "memory:" }, { WORKERS: "2" }]) {
    it(`ends with 1 and names the address where it cannot listen: ${Object.keys(several)}`, async () => {
      const env = { HOST: "192.0.2.1", PORT: "1234", DATABASE_URL: database.url };
      const text = await endOf({ ...env, ...several, ADMIN_TOKEN: "t" });
      assertMatch(text, /Cannot listen at 192\.0\.2\.1:1234: /);
      assert(!/\n {4}at /.test(text), text);
    });
  }

  it("starts and answers while both servers are down, and names a variable that is misspelt", async () => {
    await using service = await startByCommand({
      CACHE_TLL_MS: "1",
      PORT: String(freePort()),
      REDIS_URL: `redis://127.0.0.1:${freePort()}`,
      DATABASE_URL: `postgres://postgres@127.0.0.1:${freePort()}/x`,
    }, { readyPath: "/healthz" });
    assertMatch(service.log, /CACHE_TLL_MS is not read: .*Did you mean CACHE_TTL_MS\?/);
    assertEquals(await service.stop(), 0, service.log);
  });
});

/** What a start that fails with 1 says. */
async function endOf(env: Readonly<Record<string, string>>): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...START_ARGS],
    env: { ...env },
    signal: AbortSignal.timeout(20_000),
  }).output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  assertEquals(code, 1, text);
  assert(!text.includes("another starts"), text); // nor did the time-out end it
  return text;
}
