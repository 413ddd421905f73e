import { assert, assertEquals, assertGreater, assertMatch } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { parseConfig } from "../../server/config.ts";
import { productionFlags } from "../../tools/permissions.ts";
import { type ConnectionLoad, startConnectionLoad } from "../support/connection_load.ts";
import { eventually } from "../../tools/servers/eventually.ts";
import { createSeededDatabase } from "../support/seeded_database.ts";
import { workersEnv } from "../support/service_env.ts";
import type { ServerProcess } from "../../tools/servers/server_process.ts";
import {
  START_ARGS,
  startByCommand,
  type StartEnvironment,
} from "../../tools/servers/start_command.ts";
import type { TestDatabase } from "../support/test_database.ts";
import { assertAllEnd, descendantsOf } from "../support/process_tree.ts";
import { hasClientAt } from "../support/sockets.ts";

type Started = ServerProcess & {
  readonly env: StartEnvironment;
  readonly port: number;
};

describe("deno task start with WORKERS=2", () => {
  let database: TestDatabase;

  beforeAll(async () => {
    database = await createSeededDatabase(100);
  });
  afterAll(async () => await database[Symbol.asyncDispose]());

  // One after the other, on the same service, which the last one stops.
  describe("from its start to its end", () => {
    let service: Started;
    beforeAll(async () => void (service = await startWorkers()));
    afterAll(() => service[Symbol.asyncDispose]());

    it("runs two processes with exactly the computed permissions, both of which answer", async () => {
      const workers = await descendantsOf(service.pid);
      assertEquals(workers.length, 2);
      for (const pid of workers) {
        const { stdout } = await new Deno.Command("ps", {
          args: ["-ww", "-o", "args=", "-p", String(pid)],
        }).output();
        const [, ...args] = new TextDecoder().decode(stdout).trim().split(" ");
        assertEquals(args, [
          "run",
          ...productionFlags(parseConfig(service.env)),
          "main.ts",
          `--with-parent=${service.pid}`,
        ]);
      }
      await using load = startLoad(service, { fresh: 4, kept: 0 });
      for (const pid of workers) await eventually(() => assert(hasClientAt(service.port, pid)));
      assertEquals((await load.stop()).failures, []);
    });

    it("ends with 1 and says why when the port is in use, though by one that would share it", async () => {
      const { code, text } = await runStart(service.env);
      assertEquals(code, 1, text);
      assertMatch(text, /Cannot listen at 127\.0\.0\.1:\d+: the port is in use/);
      const answer = await fetch(`http://127.0.0.1:${service.env.PORT}/healthz`);
      await answer.body?.cancel();
      assertEquals(answer.status, 200);
    });

    it("goes on serving when one is killed, and has it back", async () => {
      const [victim = 0, other = 0] = await descendantsOf(service.pid);
      await using load = startLoad(service, { fresh: 2, kept: 4 });
      await answered(load, 200);
      Deno.kill(victim, "SIGKILL");
      const before = load.result.fresh + load.result.kept;
      await service.lineMatching(/process \d+ ended .*SIGKILL/);
      await answered(load, before + 200);
      await eventually(async () => {
        const now = await descendantsOf(service.pid);
        assert(now.length === 2 && now.includes(other) && !now.includes(victim));
        for (const pid of now) assert(hasClientAt(service.port, pid));
      }, { deadlineMs: 30_000 });
      // Lost is what the dead process was answering or had not accepted, until its socket is closed: a client that
      // tries again at once is refused again. Once both listen, nothing is.
      const lost = load.result.failures.length;
      await answered(load, load.result.fresh + load.result.kept + 200);
      assertEquals((await load.stop()).failures.slice(lost), []);
    });

    it("rolls on SIGHUP without losing a request, of new connections or kept ones", async () => {
      const before = await descendantsOf(service.pid);
      await using load = startLoad(service, { fresh: 4, kept: 4 });
      await answered(load, 500);
      for (let roll = 0; roll < 2; roll++) {
        const rolled = service.lineMatching(/"message":"replaced all processes"/);
        service.signal("SIGHUP");
        await rolled;
      }
      await answered(load, load.result.fresh + load.result.kept + 500);
      const { failures, toldToClose } = await load.stop();
      assertEquals(failures, [], service.log);
      assertGreater(toldToClose, 0);
      const after = await descendantsOf(service.pid);
      assertEquals(after.length, 2);
      assertEquals(after.filter((pid) => before.includes(pid)), []);
    });

    it("loses no request on SIGTERM and ends with 0", async () => {
      const workers = await descendantsOf(service.pid);
      await using load = startLoad(service, { fresh: 4, kept: 4 });
      await answered(load, 200);
      service.signal("SIGTERM");
      assertEquals((await service.exited()).code, 0, service.log);
      const { failures } = await load.stop();
      assertEquals(failures.filter((text) => !/, connect: .*refused/i.test(text)), [], service.log);
      await assertAllEnd(workers);
    });
  });

  it("ends its processes when it is killed itself", async () => {
    await using service = await startWorkers();
    const workers = await descendantsOf(service.pid);
    await service.kill();
    await assertAllEnd(workers);
  });

  it("ends a process whose parent was gone before it looked", async () => {
    const env = { ...workersEnv(database.url), WORKERS: "1" };
    const flags = productionFlags(parseConfig(env));
    const { code, text } = await run(["run", ...flags, "main.ts", "--with-parent=1"], env);
    assertEquals(code, 0, text);
    assertMatch(text, /"message":"stopping"/);
  });

  it("is refused with a cache in memory, with the reason and exit code 2", async () => {
    const { code, text } = await runStart({ WORKERS: "2", REDIS_URL: "memory:" });
    assertEquals(code, 2, text);
    assertMatch(text, /WORKERS: must be 1 with REDIS_URL=memory:.*each process has to itself/);
  });

  it("is refused without the supervisor, with the reason", async () => {
    const env = workersEnv(database.url);
    const flags = productionFlags(parseConfig(env));
    const { code, text } = await run(["run", ...flags, "main.ts"], env);
    assertEquals(code, 1, text);
    assertMatch(text, /Cannot share the port: WORKERS above 1 needs `deno task start`/);
  });

  async function startWorkers(): Promise<Started> {
    const env = workersEnv(database.url);
    const service = await startByCommand(env);
    return Object.assign(service, { env, port: Number(env.PORT) });
  }
});

function startLoad(
  { port }: Started,
  clients: { readonly fresh: number; readonly kept: number },
): ConnectionLoad {
  const path = (n: number) => `/users/${n % 100 + 1}`;
  return startConnectionLoad({ port, path, ...clients });
}

async function answered({ result }: ConnectionLoad, count: number): Promise<void> {
  await eventually(() => assertGreater(result.fresh + result.kept, count), { deadlineMs: 20_000 });
}

async function runStart(env: Record<string, string>): Promise<{ code: number; text: string }> {
  return await run(START_ARGS, env);
}

async function run(
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: fileURLToPath(new URL("../../", import.meta.url)),
    env,
  }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}
