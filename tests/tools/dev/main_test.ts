import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertStringIncludes,
} from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { startDev as startDevProcess } from "../../../tools/servers/dev_process.ts";
import { freePort } from "../../../tools/servers/free_port.ts";
import { createTestDatabase, requiredEnv } from "../../support/test_database.ts";
import { assertAllEnd, descendantsOf } from "../../support/process_tree.ts";

const dev = fileURLToPath(new URL("../../../tools/dev/main.ts", import.meta.url));

describe("deno task dev", () => {
  let folder: string;

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
  });
  afterAll(() => Deno.remove(folder, { recursive: true }));

  it("--embedded serves a user from the database, then from the cache, and Ctrl-C ends it all", async () => {
    await using service = await startDev({}, ["--embedded"]);
    assertEquals(await sourcesOfTwoReads(service.port), ["database", "cache"]);
    assertStringIncludes(service.log, "Redis     memory: (embedded)");
    assertMatch(service.log, /postgres:\/\/postgres@127\.0\.0\.1:\d+\/postgres \(embedded, 1000/);
    assertStringIncludes(service.log, `curl http://127.0.0.1:${service.port}/users/1`);
    assertStringIncludes(service.log, `Open http://127.0.0.1:${service.port} for the dashboard`);

    const children = await descendantsOf(service.pid);
    assertGreater(children.length, 2);
    service.signal("SIGINT");
    assertEquals((await service.exited()).code, 0, service.log);
    await assertAllEnd(children);
  });

  it("--cluster says what is missing where there is no redis-server", async () => {
    const PATH = "/nowhere";
    const { code, stderr } = await runDev({ PORT: String(freePort()), PATH }, ["--cluster"]);
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot start a Redis Cluster: .*docker-compose\.cluster\.yml up/);
    assert(!stderr.includes("    at "), stderr);
  });

  it("uses the servers that are configured, and shows no password", async () => {
    await using database = await createTestDatabase();
    const url = new URL(database.url);
    url.username ||= "postgres";
    url.password = "p4ss";
    const env = { REDIS_URL: requiredEnv("REDIS_URL"), DATABASE_URL: url.href };
    await using service = await startDev({ ...env, CACHE_PREFIX: `t${freePort()}` });
    assertEquals(await sourcesOfTwoReads(service.port), ["database", "cache"]);
    assertMatch(service.log, /\(configured, 1000 sample users inserted\)/);
    assert(!service.log.includes("p4ss"), service.log);
    assertEquals(await service.stop(), 0, service.log);
  });

  it("says so when the port is in use, and starts nothing", async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { code, stderr } = await runDev({ PORT: String(listener.addr.port) });
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot listen at 127\.0\.0\.1:\d+: the port is in use/);
    assert(!stderr.includes("    at "), stderr);
  });

  it("says so when it cannot listen at the address", async () => {
    const { code, stderr } = await runDev({ HOST: "192.0.2.1", PORT: String(freePort()) });
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot listen at 192\.0\.2\.1:\d+: .*\. Are HOST and PORT right\?/);
    assert(!stderr.includes("    at "), stderr);
  });

  it("names every problem of the configuration", async () => {
    const { code, stderr } = await runDev({ PORT: "x", CACHE: "y" });
    assertEquals(code, 1);
    assertMatch(stderr, /PORT: must be.*\n.*CACHE: must be/);
  });

  it("says so when the configured Postgres cannot be reached", async () => {
    const url = `postgres://postgres:p4ss@127.0.0.1:${freePort()}/x`;
    const { code, stderr } = await runDev({
      PORT: String(freePort()),
      DATABASE_URL: url,
      REDIS_URL: "memory:",
    });
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot use postgres:\/\/postgres:\*\*\*@.*Is DATABASE_URL right\?/);
    assert(!stderr.includes("    at "), stderr);
  });

  it("says why the configured Postgres refuses, or its certificate cannot be read", async () => {
    const url = new URL(requiredEnv("DATABASE_URL"));
    url.username = "nobody_of_that_name";
    const env = { PORT: String(freePort()), DATABASE_URL: url.href, REDIS_URL: "memory:" };
    for (
      const [more, message] of [
        [{}, /Cannot use postgres:.*nobody_of_that_name.*\. Is DATABASE_URL right\?/],
        [{ DATABASE_CA_FILE: "/nowhere" }, /Cannot read \/nowhere: there is no such file/],
      ] as const
    ) {
      const { code, stderr } = await runDev({ ...env, ...more });
      assertEquals(code, 1);
      assertMatch(stderr, message);
      assert(!stderr.includes("    at "), stderr);
    }
  });

  const startDev = (env: Readonly<Record<string, string>>, args: readonly string[] = []) =>
    startDevProcess(env, ["--data", folder, ...args]);

  async function runDev(
    env: Readonly<Record<string, string>>,
    args: readonly string[] = [],
  ): Promise<{ code: number; stderr: string }> {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", dev, "--data", folder, ...args],
      env,
      stdin: "null",
    }).output();
    return { code, stderr: new TextDecoder().decode(stderr) };
  }
});

async function sourcesOfTwoReads(port: number): Promise<string[]> {
  const sources: string[] = [];
  for (let read = 0; read < 2; read++) {
    const response = await fetch(`http://127.0.0.1:${port}/users/1`);
    const { source, data } = await response.json();
    assertEquals([data.name, data.email], ["User 1", "user1@example.com"]);
    sources.push(source);
  }
  return sources;
}
