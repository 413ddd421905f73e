/**
 * Waits for SIGTERM, for SIGINT, or for standard input to close: a program that `deno task dev` starts
 * ends with its parent, however that went, and leaves nothing behind.
 */
export async function untilToldToStop(): Promise<void> {
  const stopped = Promise.withResolvers<void>();
  const stop = () => stopped.resolve();
  Deno.addSignalListener("SIGTERM", stop);
  Deno.addSignalListener("SIGINT", stop);
  const parentGone = Deno.stdin.readable.pipeTo(new WritableStream());
  await Promise.race([stopped.promise, parentGone]);
}
