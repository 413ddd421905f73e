/** Ports below those that the kernel gives to outgoing connections. */
const LOWEST = 16_384;
const HIGHEST = 32_767;

/**
 * A port that is free now. Another process may take it before it is used: rare enough for tests, as
 * the kernel hands out such ports in turn.
 */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/**
 * A port that is free now, and that no outgoing connection is given while its server is down: for
 * servers that are stopped and must find it again.
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
