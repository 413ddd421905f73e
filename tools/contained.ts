/**
 * Runs a program that starts servers, and leaves nothing of it behind:
 * `deno run -A tools/contained.ts [OPTION OF DENO…] PROGRAM [ARGUMENT…]`.
 *
 * The program has a process group and a folder for temporary files of its own. Once it has ended, or on SIGINT,
 * SIGTERM or SIGHUP, the rest of the group is ended and the folder removed. A server would otherwise outlive a
 * terminal that is closed: Postgres reads its settings again on SIGHUP. Exits with the program's code.
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { send } from "./child_process.ts";

/** Exit codes as of a program that these signals end. */
const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Time for the processes to end by themselves, and then for files that they still make: attempts, and pauses. */
const ATTEMPTS = 50;
const PAUSE_MS = 100;

Deno.exit(await contained(Deno.args));

async function contained(args: readonly string[]): Promise<number> {
  const folder = await Deno.makeTempDir({ prefix: "lookaside_run_" });
  // Servers that run as another user have their data in it.
  await Deno.chmod(folder, 0o711);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", ...args],
    env: { TMPDIR: folder },
    detached: true,
  }).spawn();
  const told = Promise.withResolvers<number>();
  for (const [name, code] of Object.entries(SIGNALS)) {
    Deno.addSignalListener(name as Deno.Signal, () => told.resolve(code));
  }
  const code = await Promise.race([child.status.then((status) => status.code), told.promise]);
  await end(-child.pid);
  await remove(folder);
  return code;
}

/** Ends a process group: by SIGINT at first, after which Postgres gives its shared memory back. */
async function end(group: number): Promise<void> {
  send(group, "SIGINT");
  for (let attempt = 0; attempt < ATTEMPTS && isRunning(group); attempt++) await delay(PAUSE_MS);
  send(group, "SIGKILL");
}

/** True if there is a process in the group. One that is paused goes on, and ends. */
function isRunning(group: number): boolean {
  try {
    Deno.kill(group, "SIGCONT");
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function remove(folder: string): Promise<void> {
  for (let attempt = 1;; attempt++) {
    try {
      return await Deno.remove(folder, { recursive: true });
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
    await delay(PAUSE_MS);
  }
}
