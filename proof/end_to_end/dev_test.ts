import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { parseTopology } from "../../cache/mod.ts";
import { type DevProcess, startDev as startDevProcess } from "../../tools/servers/dev_process.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { redisCli } from "../../tools/servers/redis_cli.ts";
import { assertAllEnd, descendantsOf } from "../../tests/support/process_tree.ts";
import { createTestDatabase } from "../../tests/support/test_database.ts";

describe("deno task dev", () => {
  let folder: string;

  beforeAll(async () => {
    folder = await Deno.makeTempDir();
    await using first = await startDev({}, ["--embedded"]);
    assertEquals(await first.stop(), 0, first.log);
  });
  afterAll(() => Deno.remove(folder, { recursive: true }));

  it("keeps the embedded data for the next run, whose service has its permissions and watches its files", async () => {
    await using service = await startDev({}, ["--embedded"]);
    assertMatch(service.log, /\(embedded\)\n/);
    assert(!service.log.includes("sample users inserted"), service.log);
    const commands = await Promise.all((await descendantsOf(service.pid)).map(commandOf));
    const main = commands.find((command) =>
      / main\.ts( --break-it=\S+ --with-parent)?$/.test(command) && !/supervis/.test(command)
    );
    assertMatch(main ?? "", / run --watch .*--no-prompt .*--allow-net=127\.0\.0\.1:\d+,127/);
    assertMatch(main ?? "", / --ignore-env /);
    assert(!main?.includes("--allow-all"), main);

    // Killed, it leaves no process behind, nor what its panel has started.
    const start = `http://127.0.0.1:${service.port}/break-it/start`;
    const { text } = await (await fetch(start, { method: "POST" })).json();
    assertMatch(text, /^Both caches serve/);
    const children = await descendantsOf(service.pid);
    const all = (await Promise.all(children.map(commandOf))).join("\n");
    assertMatch(all, /redis-server/);
    assertEquals(all.split("embedded_postgres").length - 1, 2, all);
    await service.kill();
    await assertAllEnd(children);
  });

  it("--cluster serves from a cluster of three primaries and three replicas, and SIGTERM ends it all", async () => {
    await using service = await startDev({}, ["--embedded", "--cluster"]);
    await eventually(async () => {
      assertEquals(await sourceOfRead(service.port), "cache");
    });
    const [url = ""] = /redis-cluster:\S+/.exec(service.log) ?? [];
    const topology = parseTopology(url);
    assert(topology.kind === "cluster");
    assertEquals(topology.servers.length, 6);
    const keys = await Promise.all(
      topology.servers.map(({ port }) => redisCli("-p", `${port}`, "--raw", "KEYS", "*users:1}")),
    );
    assertEquals(keys.filter((each) => each !== "").length, 2, "at its primary and its replica");

    const children = await descendantsOf(service.pid);
    assertGreater(children.length, 7);
    service.signal("SIGTERM");
    assertEquals((await service.exited()).code, 0, service.log);
    await assertAllEnd(children);
  });

  it("--cluster leaves no server behind when it is killed", async () => {
    await using database = await createTestDatabase();
    await using service = await startDev({ DATABASE_URL: database.url }, ["--cluster"]);
    const children = await descendantsOf(service.pid);
    assertGreater(children.length, 7);
    await service.kill();
    await assertAllEnd(children);
  });

  const startDev = (
    env: Readonly<Record<string, string>>,
    args: readonly string[],
  ): Promise<DevProcess> => startDevProcess(env, ["--data", folder, ...args]);
});

async function sourceOfRead(port: number): Promise<string> {
  const { source, data } = await (await fetch(`http://127.0.0.1:${port}/users/1`)).json();
  assertEquals([data.name, data.email], ["User 1", "user1@example.com"]);
  return source;
}

async function commandOf(pid: number): Promise<string> {
  const { stdout } = await new Deno.Command("ps", {
    args: ["-ww", "-o", "args=", "-p", String(pid)],
  }).output();
  return new TextDecoder().decode(stdout).trim();
}
