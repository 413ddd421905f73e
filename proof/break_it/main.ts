// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * The program behind the panel of `deno task dev`, which starts it. It listens at `PANEL_URL`, and ends with
 * its standard input.
 *
 * @module
 */
import { ChildProcess, DATA_FOLDER } from "../../tools/child_process.ts";
import { Machine } from "../../tools/dev/machine.ts";
import { untilToldToStop } from "../../tools/until_told_to_stop.ts";
import { createTestDatabase } from "../../tests/support/test_database.ts";
import { messageOf } from "../../server/message_of.ts";
import type { ScratchDatabase } from "./break_it.ts";
import { serveBreakIt } from "./serve.ts";

const stopped = untilToldToStop();
await using machine = new Machine({ dataFolder: DATA_FOLDER, report: (line) => console.log(line) });
const address = new URL(Deno.env.get("PANEL_URL") ?? "");
const panel = serveBreakIt(address, {
  redisUrl: Deno.env.get("REDIS_URL") ?? "memory:",
  hasRedisServer: () => machine.hasRedisPrograms(),
  openDatabase: () => openDatabase(Deno.env.get("DATABASE_URL") ?? ""),
});
await stopped;
await panel[Symbol.asyncDispose]();
Deno.exit(0); // standard input may still be open

/** A database for this program only: beside the given one if the role may create it, otherwise embedded. */
async function openDatabase(beside: string): Promise<ScratchDatabase> {
  if (beside !== "") {
    try {
      const { url, [Symbol.asyncDispose]: drop } = await createTestDatabase(beside);
      return { url, listens: true, [Symbol.asyncDispose]: drop };
    } catch (error) {
      console.log(`Using an embedded Postgres for the panel: ${messageOf(error)}`);
    }
  }
  const args = ["run", "--allow-all", "tools/dev/embedded_postgres.ts"];
  const program = ChildProcess.deno(args, { readOutput: true });
  const url = await program.firstLine();
  return { url, listens: false, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
}
