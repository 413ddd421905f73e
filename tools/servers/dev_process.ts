import { fileURLToPath } from "node:url";
import { freePort } from "./free_port.ts";
import { readyAt } from "./ready_at.ts";
import { ServerProcess, started } from "./server_process.ts";

const START_MS_MAX = 60_000;

const program = fileURLToPath(new URL("../dev/main.ts", import.meta.url));

/** `deno task dev` on a free port; ready once its service is. */
export class DevProcess extends ServerProcess {
  /** The port of its service. */
  readonly port: number;

  /** Use {@linkcode startDev}. */
  constructor(port: number, env: Readonly<Record<string, string>>, args: readonly string[]) {
    super({
      command: Deno.execPath(),
      args: ["run", "--allow-all", program, ...args],
      env: { ...env, PORT: String(port) },
      ...readyAt(`http://127.0.0.1:${port}/readyz`, START_MS_MAX),
    });
    this.port = port;
  }
}

/** Starts `deno task dev` with some environment and arguments, and waits until its service is ready. */
export async function startDev(
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<DevProcess> {
  return await started(new DevProcess(freePort(), env, args));
}
