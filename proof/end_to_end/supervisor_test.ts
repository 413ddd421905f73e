import { assert, assertEquals } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { eventually } from "../../tools/servers/eventually.ts";
import { ServerProcess } from "../../tools/servers/server_process.ts";
import { START_ARGS, startByCommand } from "../../tools/servers/start_command.ts";
import { descendantsOf } from "../../tests/support/process_tree.ts";
import { createSeededDatabase } from "../../tests/support/seeded_database.ts";
import { workersEnv } from "../../tests/support/service_env.ts";
import { listensAt } from "../../tests/support/sockets.ts";
import type { TestDatabase } from "../../tests/support/test_database.ts";
import { copyTree } from "../../tests/support/tree_copy.ts";

describe("deno task start with WORKERS=2", () => {
  let database: TestDatabase;

  beforeAll(async () => {
    database = await createSeededDatabase(100);
  });
  afterAll(async () => await database[Symbol.asyncDispose]());

  it("starts another for one that is killed before it listens, and gives nothing up", async () => {
    const env = workersEnv(database.url);
    await using service = new ServerProcess({
      command: Deno.execPath(),
      args: START_ARGS,
      env,
      ready: () => Promise.resolve(),
    });
    await service.start();
    const [victim = 0] = await eventually(async () => {
      const workers = await descendantsOf(service.pid);
      assertEquals(workers.length, 2);
      return workers;
    }, { deadlineMs: 30_000, everyMs: 1 });
    Deno.kill(victim, "SIGKILL");
    await eventually(async () => {
      const workers = await descendantsOf(service.pid);
      assert(workers.length === 2 && !workers.includes(victim), service.log);
      for (const pid of workers) assert(listensAt(Number(env.PORT), pid), service.log);
    }, { deadlineMs: 30_000 });
    assertEquals(await service.stop(), 0, service.log);
  });

  it("goes on while no process can be started, and starts those that are missing once one can", async () => {
    await using tree = await copyTree();
    const env = workersEnv(database.url);
    const args = ["run", "--allow-all", `${tree.root}tools/start.ts`];
    await using service = await startByCommand(env, { args });
    const [victim = 0, other = 0] = await descendantsOf(service.pid);
    const away = `${tree.root.slice(0, -1)}_away`;
    await Deno.rename(tree.root, away);
    const refused = service.lineMatching(/"level":"ERROR".*Cannot roll/);
    service.signal("SIGHUP");
    await refused;
    const failed = service.lineMatching(/process 0 ended .*: another starts/);
    Deno.kill(victim, "SIGKILL");
    await failed;
    assertEquals(await descendantsOf(service.pid), [other]);
    await Deno.rename(away, tree.root);
    await eventually(async () => {
      const now = await descendantsOf(service.pid);
      assert(now.length === 2 && now.includes(other), service.log);
      for (const pid of now) assert(listensAt(Number(env.PORT), pid), service.log);
    }, { deadlineMs: 30_000 });
    assertEquals(await service.stop(), 0, service.log);
  });

  it("rolls on a SIGHUP that comes before its processes listen", async () => {
    await using service = new ServerProcess({
      command: Deno.execPath(),
      args: START_ARGS,
      env: workersEnv(database.url),
      ready: () => Promise.resolve(),
    });
    await service.start();
    const rolled = service.lineMatching(/"message":"replaced all processes"/);
    await eventually(async () => {
      assertEquals((await descendantsOf(service.pid)).length, 2);
    }, { deadlineMs: 30_000, everyMs: 1 });
    service.signal("SIGHUP");
    await rolled;
    assertEquals(await service.stop(), 0, service.log);
  });
});
