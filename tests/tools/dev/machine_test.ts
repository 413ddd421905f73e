import { assert, assertEquals, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { freePort } from "../../../tools/servers/free_port.ts";
import { startRedis } from "../../../tools/servers/redis_server.ts";
import { createTestDatabase, requiredEnv } from "../../support/test_database.ts";
import { Machine } from "../../../tools/dev/machine.ts";

describe("Machine", () => {
  const reports: string[] = [];
  let machine: Machine;
  let folder: string;

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
    machine = new Machine({ dataFolder: folder, report: (line) => reports.push(line) });
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
    await Deno.remove(folder, { recursive: true });
  });

  it("finds a Redis that answers, and none where nothing listens", async () => {
    assertEquals(await machine.redisAnswers(requiredEnv("REDIS_URL")), true);
    assertEquals(await machine.redisAnswers(`redis://127.0.0.1:${freePort()}`), false);
    assertEquals(reports.splice(0), []);
  });

  it("passes over a Redis that asks for a password, and says so", async () => {
    await using redis = await startRedis({ args: ["--requirepass", "p4ss"] });
    assertEquals(await machine.redisAnswers(redis.url), false);
    const [report] = reports.splice(0);
    assertMatch(report ?? "", /asks for a password: set REDIS_URL/);
  });

  it("gives up on a server that accepts and says nothing", async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const accepted = listener.accept();
    assertEquals(await machine.redisAnswers(`redis://127.0.0.1:${listener.addr.port}`), false);
    (await accepted).close();
  });

  it("finds a Postgres that lets it in, and makes the database", async () => {
    await using database = await createTestDatabase();
    const url = new URL(database.url);
    url.pathname += "_dev";
    await using _made = {
      async [Symbol.asyncDispose]() {
        const { default: postgres } = await import("postgres");
        const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
        await sql.unsafe(`DROP DATABASE IF EXISTS ${url.pathname.slice(1)} WITH (FORCE)`);
        await sql.end();
      },
    };
    assertEquals(await machine.postgresAnswers(url.href), true);
    assertEquals(await machine.postgresAnswers(url.href), true);
    assertEquals(reports.splice(0), []);
  });

  it("finds no Postgres where nothing listens", async () => {
    assertEquals(await machine.postgresAnswers(`postgres://me@127.0.0.1:${freePort()}/x`), false);
    assertEquals(reports.splice(0), []);
  });

  it("passes over a Postgres that does not let it in, and says why without the password", async () => {
    const url = new URL(requiredEnv("DATABASE_URL"));
    url.username = "nobody_of_that_name";
    url.password = "p4ss";
    assertEquals(await machine.postgresAnswers(url.href), false);
    const [report] = reports.splice(0);
    assertMatch(report ?? "", /answers, but: .*nobody_of_that_name.*Set DATABASE_URL/);
    assert(!report?.includes("p4ss"));
  });

  it("starts services with Docker Compose, and stops the same ones", async () => {
    await using docker = await fakeDocker("exit 0");
    {
      await using own = new Machine({ dataFolder: folder, report: () => undefined });
      assertEquals(await own.startWithCompose(["redis"]), true);
    }
    assertEquals(await docker.calls(), [
      "info",
      "compose up -d --wait redis",
      "compose stop redis",
    ]);
  });

  it("starts nothing where no Docker engine runs", async () => {
    await using docker = await fakeDocker("exit 1");
    assertEquals(await machine.startWithCompose(["redis"]), false);
    assertEquals(await docker.calls(), ["info"]);
  });

  it("goes on where Docker Compose fails, and says so", async () => {
    await using docker = await fakeDocker('[ "$1" = info ]');
    assertEquals(await machine.startWithCompose(["postgres"]), false);
    assertEquals(await docker.calls(), ["info", "compose up -d --wait postgres"]);
    assertMatch(reports.splice(0).at(-1) ?? "", /could not start/);
  });
});

/** Puts a `docker` first on the PATH that writes its arguments down and then runs `script`. */
async function fakeDocker(
  script: string,
): Promise<AsyncDisposable & { calls(): Promise<string[]> }> {
  const folder = await Deno.makeTempDir();
  const log = `${folder}/calls`;
  await Deno.writeTextFile(`${folder}/docker`, `#!/bin/sh\necho "$*" >> ${log}\n${script}\n`, {
    mode: 0o755,
  });
  const path = Deno.env.get("PATH") ?? "";
  Deno.env.set("PATH", `${folder}:${path}`);
  return {
    calls: async () => (await Deno.readTextFile(log)).trim().split("\n"),
    async [Symbol.asyncDispose]() {
      Deno.env.set("PATH", path);
      await Deno.remove(folder, { recursive: true });
    },
  };
}
