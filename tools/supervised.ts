/**
 * Runs a command that ends with its parent: `deno run tools/supervised.ts COMMAND ARGS…`.
 *
 * The parent holds this program's standard input open. When that closes, the parent is gone, for whatever
 * reason, and the command is told to stop; so it is on SIGTERM and SIGINT. Exits with the command's code, or
 * with 0 if it was told to stop.
 *
 * @module
 */
import { send } from "./child_process.ts";

/**
 * Interval of repeated SIGTERMs: `deno run --watch` passes the first on to its program, which finishes its work,
 * and itself ends only on a later one. For other programs, a repetition means the same.
 */
const REPEAT_MS = 200;
const KILL_AFTER_MS = 20_000;

const [command, ...args] = Deno.args;
if (command === undefined) throw new TypeError("Cannot supervise: no command is given");

const child = new Deno.Command(command, { args, stdin: "null" }).spawn();
let stopped = false;
Deno.addSignalListener("SIGTERM", stop);
Deno.addSignalListener("SIGINT", stop);
Deno.stdin.readable.pipeTo(new WritableStream()).then(stop, stop);
const { code } = await child.status;
Deno.exit(stopped ? 0 : code);

function stop(): void {
  if (stopped) return;
  stopped = true;
  send(child, "SIGTERM");
  setInterval(() => send(child, "SIGTERM"), REPEAT_MS);
  setTimeout(() => send(child, "SIGKILL"), KILL_AFTER_MS);
}
