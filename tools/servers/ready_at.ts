import { eventually } from "./eventually.ts";
import type { ServerSpec } from "./server_process.ts";

/** The readiness of a server that answers 200 at `url` once it is ready. */
export function readyAt(
  url: string,
  readyWithinMs = 30_000,
): Required<Pick<ServerSpec, "ready" | "readyWithinMs">> {
  const check = async (signal: AbortSignal) => {
    const response = await fetch(url, { signal });
    const text = await response.text();
    if (!response.ok) throw new Error(`Cannot use ${url}: it answers ${response.status} ${text}`);
  };
  // Gives up just before the process's own limit, whose error could not say what was answered.
  const deadlineMs = readyWithinMs - 500;
  return {
    ready: (_, signal) => eventually(() => check(signal), { deadlineMs, signal }),
    readyWithinMs,
  };
}
