// deno-lint-ignore-file no-console -- a command talks to its terminal

/**
 * `deno task start`: runs the service with exactly the permissions its configuration calls for.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { ConfigError, parseConfig, readEnvironment } from "../config.ts";
import { productionFlags } from "./permissions.ts";
import { announcedNodes } from "./redis_nodes.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MISCONFIGURED = 2;

/** Runs `deno` in the project's folder and answers its exit code. Signals are passed on. */
async function runDeno(args: readonly string[]): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  const forward = (["SIGTERM", "SIGINT"] as const).map((signal) => {
    const listener = () => child.kill(signal);
    Deno.addSignalListener(signal, listener);
    return () => Deno.removeSignalListener(signal, listener);
  });
  try {
    return (await child.status).code;
  } finally {
    for (const stop of forward) stop();
  }
}

async function start(): Promise<number> {
  try {
    const config = parseConfig(readEnvironment());
    const announced = await announcedNodes(config, (line) => console.error(line));
    const flags = productionFlags(config, announced);
    const cached = await runDeno(["cache", "--quiet", "--frozen", "main.ts"]);
    return cached === 0 ? await runDeno(["run", ...flags, "main.ts"]) : cached;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    return MISCONFIGURED;
  }
}

if (import.meta.main) Deno.exit(await start());
