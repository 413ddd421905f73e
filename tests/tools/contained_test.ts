import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { ServerProcess } from "../../tools/servers/server_process.ts";
import { assertAllEnd } from "../support/process_tree.ts";

const contained = fileURLToPath(new URL("../../tools/contained.ts", import.meta.url));

/** Starts a process that only SIGKILL ends, makes a folder, and prints both. */
const PROGRAM = `
  const args = ["-c", "trap '' INT HUP TERM; while :; do sleep 1; done"];
  const child = new Deno.Command("sh", { args, stdout: "null", stderr: "null" }).spawn();
  console.log(child.pid, Deno.makeTempDirSync());
  if (Deno.args[0] === "ends") Deno.exit(7);
  await child.status;`;

/** How the program ends, and the exit code. */
const ENDS = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
  [undefined, 7],
] as const;

describe("tools/contained.ts", () => {
  it("leaves no process and no file behind after a signal, or the program's end", async () => {
    // All at once, since each waits for a process that does not end by itself.
    await Promise.all(ENDS.map(([signal, code]) => assertLeavesNothing(signal, code)));
  });
});

async function assertLeavesNothing(signal: Deno.Signal | undefined, code: number): Promise<void> {
  const program = await Deno.makeTempFile({ suffix: ".ts" });
  await using run = new ServerProcess({
    command: Deno.execPath(),
    args: ["run", "-A", contained, program, signal === undefined ? "ends" : "stays"],
    ready: /^\d+ /,
  });
  try {
    await Deno.writeTextFile(program, PROGRAM);
    await run.start();
    const [pid, folder = ""] = run.log.split(" ");
    assertEquals(existsSync(folder), true);
    if (signal !== undefined) run.signal(signal);
    assertEquals((await run.exited()).code, code);
    await assertAllEnd([Number(pid)]);
    assertEquals(existsSync(dirname(folder)), false);
  } finally {
    await Deno.remove(program);
  }
}
