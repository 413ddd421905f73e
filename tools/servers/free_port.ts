/** Lowest of the ports used here, below those that the kernel gives to outgoing connections. */
const LOWEST = 16_384;
const HIGHEST = 32_767;

/**
 * A port that is free now. Another process may take it first, which is rare enough for tests, since the kernel
 * gives out such ports in turn.
 */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/**
 * A free port that is not given to outgoing connections while its server is down: for servers that are stopped
 * and restarted.
 */
export function lastingPort(): number {
  for (;;) {
    const port = LOWEST + Math.floor(Math.random() * (HIGHEST - LOWEST + 1));
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
