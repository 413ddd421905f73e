import { assert, assertEquals, assertGreater, assertLess, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { freePort } from "../../../tools/servers/free_port.ts";
import { createSeededDatabase } from "../../support/seeded_database.ts";
import { type Service, startService } from "../../../tools/servers/service.ts";

const load = fileURLToPath(new URL("../../../tools/load/main.ts", import.meta.url));

async function runLoad(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", load, ...args],
    env,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

describe("deno task load", () => {
  const stack = new AsyncDisposableStack();
  let env: Readonly<Record<"DATABASE_URL" | "REDIS_URL", string>>;
  let service: Service;

  beforeAll(async () => {
    const database = stack.use(await createSeededDatabase(100));
    env = { DATABASE_URL: database.url, REDIS_URL: "memory:" };
    service = stack.use(await startService({ env: { ...env, ADMIN_TOKEN: "t0ken" } }));
  });
  afterAll(() => stack.disposeAsync());

  it("measures the four rows with and without the cache", async () => {
    const args = ["--url", service.url, "--seconds", "1", "--json"];
    const { code, stdout, stderr } = await runLoad(args, { ...env, ADMIN_TOKEN: "t0ken" });
    assertEquals(code, 0, stderr);
    const { rows } = JSON.parse(stdout);
    assertEquals(rows.map((row: { name: string; unit: string }) => [row.name, row.unit]), [
      ["Single query", "ms"],
      ["100 queries, same key", "ms"],
      ["100 queries, different keys (cold)", "ms"],
      ["Database load at 100 req/s", "loads/s"],
    ]);
    for (const { withoutCache } of rows) assertGreater(withoutCache, 0);
    // Every request loads without the cache; with it, the row before has loaded them all.
    assertGreater(rows[3].withoutCache, 50);
    assertLess(rows[3].withCache, 10);
    assertEquals(stderr.trim().split("\n").length, 8, stderr);
  });

  it("says so when no service is there", async () => {
    const { code, stderr } = await runLoad(["--url", `http://127.0.0.1:${freePort()}`]);
    assertEquals(code, 1);
    assertMatch(stderr, /Cannot put load on .* Is the service running\?/);
    assert(!/\n {4}at /.test(stderr), stderr);
  });

  it("says so when the users are missing", async () => {
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => undefined },
      () => new Response(null, { status: 404 }),
    );
    const { code, stderr } = await runLoad(["--url", `http://127.0.0.1:${server.addr.port}`]);
    assertEquals(code, 1);
    assertMatch(stderr, /GET \/users\/\d+ answers 404\. `deno task seed` makes the users\n$/);
  });

  it("says so when it needs a token", async () => {
    const { code, stderr } = await runLoad(["--url", service.url], env);
    assertEquals(code, 1);
    assertMatch(stderr, /answers 401\. Set ADMIN_TOKEN/);
  });

  it("says before it measures that the report cannot be written", async () => {
    const { code, stderr } = await runLoad(["--report", "/nowhere/report.html"]);
    assertEquals(code, 1);
    assertMatch(stderr, /^Cannot write \/nowhere\/report\.html: [^\n]+\n$/);
  });

  it("refuses options that make no sense", async () => {
    assertEquals((await runLoad(["--seconds", "0"])).code, 2);
    assertEquals((await runLoad(["--url", "nowhere"])).code, 2);
    assertEquals((await runLoad(["--report", "--kill-redis-at", "soon"])).code, 2);
    assertEquals((await runLoad(["--kill-redis-at", "2s"])).code, 2);
  });
});
