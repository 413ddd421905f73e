/** How Deno refuses to connect. */
const NET_REFUSAL = /^Requires net access to "([^"]+)"/;

/** The address that Deno does not let this process connect to, if that is what is wrong. */
export function unlistedAddress(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof Deno.errors.NotCapable) return NET_REFUSAL.exec(error.message)?.[1];
  // A cluster's client says it last of all; of a name, Deno refuses to ask for the address.
  const { lastNodeError, code, hostname } = error as {
    lastNodeError?: unknown;
    code?: unknown;
    hostname?: unknown;
  };
  if (code === "EPERM" && typeof hostname === "string") return hostname;
  return unlistedAddress(lastNodeError ?? error.cause);
}
