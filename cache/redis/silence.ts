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
    let answeredBytes = 0; // the client has written its first questions already
    let sinceMs = clock.monotonicNow();
    let wasLate = false;
    const heard = () => {
      answeredBytes = stream.bytesWritten;
      sinceMs = clock.monotonicNow();
      wasLate = false;
    };
    const lookIn = (delayMs: number) => {
      const dueMs = clock.monotonicNow() + delayMs;
      timer = clock.after(delayMs, () => {
        if (stream.destroyed) return;
        const nowMs = clock.monotonicNow();
        const lateMs = nowMs - dueMs;
        wasLate = !wasLate && lateMs > LATE_MS;
        if (stream.bytesWritten === answeredBytes) heard();
        else if (wasLate) {
          // The socket is read before the next check, which decides even if it is late too: perhaps all are.
          sinceMs += lateMs;
          return lookIn(LATE_MS);
        }
        if (nowMs - sinceMs < silenceMsMax) return lookIn(everyMs);
        stream.destroy(new Error(`Cannot wait longer: Redis was silent for ${silenceMsMax} ms`));
      });
    };
    lookIn(everyMs);
    stream.on("data", heard);
    stream.once("close", () => timer?.cancel());
  });
}
