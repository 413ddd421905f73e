import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
// @ts-types="./_pg_copy_streams.d.ts"
import { from } from "pg-copy-streams";
import type { Clock, Timer } from "../runtime.ts";
import type { PgClient } from "./_pg_client.ts";
import { isLoss, told } from "./_pg_error.ts";

/** The parts of a copy. */
export interface CopyOptions {
  /** `COPY … FROM STDIN`. */
  readonly text: string;
  /** Rows as text. */
  readonly chunks: AsyncIterable<string>;
  /** The longest that Postgres may take for a chunk, and to finish after the last one. */
  readonly limitMs: number;
  /** The source of time. */
  readonly clock: Clock;
}

/**
 * Streams rows over a client in sole use, and resolves once Postgres has them. An error of their source is
 * passed on unchanged.
 */
export async function copy(
  client: PgClient,
  { text, chunks, limitMs, clock }: CopyOptions,
): Promise<void> {
  let failure: { readonly error: unknown } | undefined;
  let isReading = true;
  let timer: Timer | undefined;
  const begin = () => {
    // The source may yield another chunk after the connection was lost.
    if (!client.isSpent) timer = clock.after(limitMs, () => client.destroy());
  };
  async function* bounded(): AsyncGenerator<string> {
    try {
      for await (const chunk of chunks) {
        isReading = false;
        begin();
        yield chunk;
        timer?.cancel();
        isReading = true;
      }
    } catch (error) {
      // The stream also throws errors of the connection into this generator.
      if (isReading) failure = { error };
      throw error;
    }
    begin();
  }
  try {
    const sink = from(text);
    client.query(sink);
    const lost = client.ended.then(() => Promise.reject(new Error("Cannot copy: it has ended")));
    await Promise.race([pipeline(Readable.from(bounded()), sink), lost]);
  } catch (error) {
    if (failure !== undefined) throw failure.error;
    if (isLoss(error)) client.isSpent = true;
    throw told(error, "the connection was lost");
  } finally {
    timer?.cancel();
  }
}
