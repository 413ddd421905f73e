import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { parseConfig, VARIABLE_NAMES } from "../../server/config.ts";
import { compileArgs } from "../../tools/compile.ts";
import { permissionFlags } from "../../tools/permissions.ts";
import { freePort } from "../../tools/servers/free_port.ts";
import { readyAt } from "../../tools/servers/ready_at.ts";
import { startRedis } from "../../tools/servers/redis_server.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { ServerProcess } from "../../tools/servers/server_process.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const config = parseConfig({
  REDIS_URL: "redis://cache.internal:6379",
  DATABASE_URL: "postgres://db.internal:5432/app",
});

/** What Deno writes into a binary of the permissions it was compiled with. */
interface BakedPermissions {
  readonly allow_net: readonly string[] | null;
  readonly allow_env: readonly string[] | null;
  readonly [name: string]: unknown;
}

describe("deno compile", () => {
  // The runtime that a binary begins with comes from Deno's own host. Deno itself stands in for it,
  // so the outcome holds the service and its permissions, and is not run.
  it("puts the whole service into one file, with its permissions", async () => {
    const folder = await Deno.makeTempDir({ prefix: "lookaside_compile_" });
    try {
      const output = `${folder}/lookaside`;
      // `deno task check` is for the types.
      const [compile = "", ...args] = compileArgs(config, { output, anyHost: false });
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [compile, "--no-check", ...args],
        cwd: root,
        env: { DENORT_BIN: Deno.execPath() },
        stdin: "null",
      }).output();
      assert(success, new TextDecoder().decode(stderr));
      const [base, binary] = await Promise.all([Deno.stat(Deno.execPath()), Deno.stat(output)]);
      assertGreater(binary.size, base.size + 1_000_000);
      const baked = await permissionsIn(output, base.size);
      assertEquals(baked.allow_net, [
        "127.0.0.1:3000",
        "cache.internal:6379",
        "db.internal:5432",
      ]);
      assertEquals(baked.allow_env, [...VARIABLE_NAMES]);
      assertEquals(baked.deny_import, []); // an empty list is all of them
      for (const name of ["read", "write", "run", "sys", "ffi"]) {
        assertEquals(baked[`allow_${name}`], null, name);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});

describe("deno bundle", () => {
  // What a binary holds beside its runtime: the same bundler makes it.
  it("leaves out nothing that the service needs: it runs where there is nothing else", async () => {
    const folder = await Deno.makeTempDir({ prefix: "lookaside_bundle_" });
    await using database = await createSeededDatabase(2);
    await using redis = await startRedis();
    const port = freePort();
    const env = {
      HOST: "127.0.0.1",
      PORT: String(port),
      ADMIN_OPEN: "on",
      REDIS_URL: redis.serviceUrl,
      DATABASE_URL: database.url,
    };
    const url = `http://127.0.0.1:${port}`;
    const bundled = await new Deno.Command(Deno.execPath(), {
      args: ["bundle", "--quiet", "--frozen", "--output", `${folder}/lookaside.js`, "main.ts"],
      cwd: root,
      stdin: "null",
    }).output();
    assert(bundled.success, new TextDecoder().decode(bundled.stderr));
    await using service = new ServerProcess({
      command: Deno.execPath(),
      args: [
        ...["run", "--no-config", "--no-lock", "--cached-only", "--deny-import"],
        ...permissionFlags(parseConfig(env)),
        `${folder}/lookaside.js`,
      ],
      // No cache of Deno's either, with the packages that it was made of.
      env: { ...env, DENO_DIR: `${folder}/empty` },
      clearEnv: true,
      ownDirectory: folder,
      ...readyAt(`${url}/readyz`),
    });
    await service.start();
    const answers: Record<string, number> = {};
    for (const path of PATHS) {
      const response = await fetch(url + path);
      await response.body?.cancel();
      answers[path] = response.status;
    }
    assertEquals(answers, Object.fromEntries(PATHS.map((path) => [path, 200])));
    const again = await (await fetch(`${url}/users/1`)).json();
    assertEquals([again.source, again.data.name], ["cache", "User 1"]);
  });
});

/** Pages and what they load, data, and what is only loaded when it is first asked for. */
const PATHS = [
  "/",
  "/dashboard/main.js",
  "/dashboard/uplot.js",
  "/dashboard/style.css",
  "/docs",
  "/openapi.json",
  "/metrics",
  "/cache/stats",
  "/users/1",
  "/users?page=1&limit=2",
];

/** Reads them from the part of a binary that follows its runtime. */
async function permissionsIn(path: string, from: number): Promise<BakedPermissions> {
  using file = await Deno.open(path);
  await file.seek(from - 1_000_000, Deno.SeekMode.Start);
  const text = await new Response(file.readable).text();
  const found = /"permissions":(\{[^{}]*\})/.exec(text)?.[1];
  assert(found !== undefined, "the binary has no permissions");
  return JSON.parse(found);
}
