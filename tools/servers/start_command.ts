import { fileURLToPath } from "node:url";
import { readyAt } from "./ready_at.ts";
import { ServerProcess } from "./server_process.ts";

/** The arguments of `deno` that `deno task start` stands for. */
export const START_ARGS: readonly string[] = [
  ...["run", "--allow-all"],
  fileURLToPath(new URL("../start.ts", import.meta.url)),
];

/** The environment of {@linkcode startByCommand}. */
export interface StartEnvironment extends Readonly<Record<string, string>> {
  /** The port that the service listens on, at 127.0.0.1. */
  readonly PORT: string;
}

/** Starts the service as `deno task start` does, and waits until `readyPath` answers 200. */
export async function startByCommand(
  env: StartEnvironment,
  { readyPath = "/readyz", args = START_ARGS }: {
    readonly readyPath?: string;
    readonly args?: readonly string[];
  } = {},
): Promise<ServerProcess> {
  const service = new ServerProcess({
    command: Deno.execPath(),
    args,
    env,
    ...readyAt(`http://127.0.0.1:${env.PORT}${readyPath}`),
  });
  await service.start();
  return service;
}
