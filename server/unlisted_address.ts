/** The message with which Deno refuses a connection. */
const NET_REFUSAL = /^Requires net access to "([^"]+)"/;

/** The address that Deno's permissions exclude, if that is the error. */
export function unlistedAddress(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof Deno.errors.NotCapable) return NET_REFUSAL.exec(error.message)?.[1];
  // A cluster client has it in `lastNodeError`. For a name, Deno refuses to look up the address.
  const { lastNodeError, code, hostname } = error as {
    lastNodeError?: unknown;
    code?: unknown;
    hostname?: unknown;
  };
  if (code === "EPERM" && typeof hostname === "string") return hostname;
  return unlistedAddress(lastNodeError ?? error.cause);
}
