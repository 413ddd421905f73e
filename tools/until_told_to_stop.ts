/**
 * Waits for SIGTERM, SIGINT, or the end of standard input: a program that `deno task dev` starts ends with its
 * parent, even if that was killed.
 */
export async function untilToldToStop(): Promise<void> {
  const stopped = Promise.withResolvers<void>();
  const stop = () => stopped.resolve();
  Deno.addSignalListener("SIGTERM", stop);
  Deno.addSignalListener("SIGINT", stop);
  const parentGone = Deno.stdin.readable.pipeTo(new WritableStream());
  await Promise.race([stopped.promise, parentGone]);
}
