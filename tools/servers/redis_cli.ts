/** Longest duration of a command; creating a cluster takes the longest. */
const TIMEOUT_MS = 30_000;

/**
 * Runs `redis-cli` and answers its output without the last line break.
 *
 * @throws {Error} It failed, or took too long.
 */
export async function redisCli(...args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("redis-cli", {
    args: [...args],
    stdin: "null",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout).replace(/\n$/, "");
  if (success) return text;
  throw new Error(`Cannot run redis-cli ${args.join(" ")}: ${decoder.decode(stderr)}${text}`);
}
