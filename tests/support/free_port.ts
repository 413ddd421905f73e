/**
 * A port that is free now. Another process may take it before it is used: rare enough for tests, as
 * the kernel hands out such ports in turn.
 */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
