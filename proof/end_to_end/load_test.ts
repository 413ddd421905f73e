import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { fileURLToPath } from "node:url";
import { freePort } from "../../tools/servers/free_port.ts";

const load = fileURLToPath(new URL("../../tools/load/main.ts", import.meta.url));

describe("deno task load", () => {
  it("writes a report of a run in whose middle Redis is killed, and touches no other server", async () => {
    const folder = await Deno.makeTempDir();
    try {
      const file = `${folder}/report.html`;
      const elsewhere = `http://127.0.0.1:${freePort()}`;
      // Nothing answers at these: it starts what it needs.
      const env = { DATABASE_URL: "postgres://127.0.0.1:1/x", REDIS_URL: "redis://127.0.0.1:1" };
      const args = ["--url", elsewhere, "--seconds", "1", "--report", file];
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--allow-all", load, ...args, "--kill-redis-at", "2s"],
        env,
        stdin: "null",
      }).output();
      assert(success, new TextDecoder().decode(stderr));
      const page = await Deno.readTextFile(file);
      const { withCache, withoutCache, fault } = JSON.parse(
        /id="data">(.*?)<\/script>/.exec(page)?.[1] ?? "",
      );
      assertEquals([fault.fromS, fault.toS], [2, 7]);
      // Without Redis memory answers the same reads, and none fails.
      const countedAt = (second: number) =>
        withCache.counted.find(({ atS }: { atS: number }) => Math.round(atS) === second);
      for (const second of [1, 5]) assertLess(countedAt(second).loads, 100);
      assertEquals(countedAt(5).redis, 0);
      assertGreater(countedAt(5).memory, 200);
      const last = withCache.counted.at(-1);
      assertGreater(last.memory + last.redis, last.loads);
      for (const { failed } of withCache.samples) assertEquals(failed, 0);
      // The mean, because a busy machine answers the reads of one second in the next.
      const loads = withoutCache.counted.map(({ loads }: { loads: number }) => loads);
      assertGreater(loads.reduce((sum: number, each: number) => sum + each) / loads.length, 200);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
});
