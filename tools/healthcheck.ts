/**
 * Checks that the service in this container is alive: exit code 0 or 1. The image has no curl.
 *
 * @module
 */
const url = `http://127.0.0.1:${Deno.args[0] ?? "3000"}/healthz`;

try {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  await response.body?.cancel();
  Deno.exit(response.ok ? 0 : 1);
} catch (_error) {
  // Docker shows that the answer is no; the service's log shows why.
  Deno.exit(1);
}
