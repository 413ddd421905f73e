// deno-lint-ignore-file no-console -- a command talks to its terminal
/**
 * How long the service takes from the start of its process to the first 200 of `/readyz`, with the
 * Redis and Postgres of the environment.
 *
 * `deno run -A bench/start_up.ts [--rounds 20] [--binary dist/lookaside | --bundle lookaside.js]`
 *
 * @module
 */
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { parseConfig, readEnvironment } from "../server/config.ts";
import { productionFlags } from "../tools/permissions.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));
const POLL_MS = 4;
const READY_MS_MAX = 20_000;

/** Starts the service once and answers the milliseconds until it was ready. */
async function startOnce(command: readonly string[], port: number): Promise<number> {
  const [program = "", ...args] = command;
  const startedAtMs = performance.now();
  const child = new Deno.Command(program, {
    args,
    cwd: ROOT,
    env: { HOST: "127.0.0.1", PORT: String(port), LOG_LEVEL: "error" },
    stdin: "null",
  }).spawn();
  try {
    while (!await isReady(`http://127.0.0.1:${port}/readyz`)) {
      if (performance.now() - startedAtMs > READY_MS_MAX) throw new Error("it is never ready");
      await delay(POLL_MS);
    }
    return performance.now() - startedAtMs;
  } finally {
    child.kill("SIGTERM");
    await child.status;
  }
}

async function isReady(url: string): Promise<boolean> {
  try {
    const response = await fetch(url);
    await response.body?.cancel();
    return response.ok;
  } catch (error) {
    // Nothing listens there yet.
    if (error instanceof TypeError) return false;
    throw error;
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "20" },
      binary: { type: "string" },
      bundle: { type: "string" },
    },
  });
  const port = freePort();
  const env = { ...readEnvironment(), HOST: "127.0.0.1", PORT: String(port) };
  const command = values.binary === undefined
    ? [Deno.execPath(), "run", ...productionFlags(parseConfig(env)), values.bundle ?? "main.ts"]
    : [values.binary];
  const timesMs: number[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    timesMs.push(await startOnce(command, port));
  }
  timesMs.sort((a, b) => a - b);
  const at = (share: number) => timesMs[Math.floor(share * (timesMs.length - 1))]?.toFixed(0);
  console.log(
    `ready after ${at(0.5)} ms (median of ${timesMs.length}; ${at(0)} to ${at(1)}): ${command[0]}`,
  );
}
