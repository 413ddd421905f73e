import type { Redis } from "ioredis";
import type { Timer } from "../runtime.ts";
import type { ConnectionOptions } from "./connection.ts";

/** Reconnect after this many command time-outs without a byte. */
const SILENT_COMMANDS_MAX = 4;
/** Number of checks within the longest permitted silence. */
const LOOKS = 4;
/** A check that is later than this shows that this process was busy or suspended. */
const LATE_MS = 20;

/**
 * Tears down a connection that has been silent for too long although a reply is due: a connection that a
 * firewall forgot stays open for ever. A new one follows.
 *
 * Time in which this process did not read its sockets does not count. With ioredis's own `socketTimeout` it
 * would, because a timer fires before the socket is read.
 */
export function endSilence(
  client: Redis,
  { clock, commandTimeoutMs }: Pick<ConnectionOptions, "clock" | "commandTimeoutMs">,
): void {
  const silenceMsMax = SILENT_COMMANDS_MAX * commandTimeoutMs;
  const everyMs = silenceMsMax / LOOKS;
  client.on("connect", () => {
    const { stream } = client;
    let timer: Timer | undefined;
    let answeredBytes = 0;
    let sinceMs = 0;
    const heard = () => {
      answeredBytes = stream.bytesWritten;
      sinceMs = clock.monotonicNow();
    };
    const lookAt = (dueMs: number) => {
      timer = clock.after(everyMs, () => {
        if (stream.destroyed) return;
        const nowMs = clock.monotonicNow();
        if (stream.bytesWritten === answeredBytes || nowMs - dueMs > LATE_MS) sinceMs = nowMs;
        if (nowMs - sinceMs < silenceMsMax) return lookAt(nowMs + everyMs);
        stream.destroy(new Error(`Cannot wait longer: Redis was silent for ${silenceMsMax} ms`));
      });
    };
    heard();
    lookAt(sinceMs + everyMs);
    stream.on("data", heard);
    stream.once("close", () => timer?.cancel());
  });
}
