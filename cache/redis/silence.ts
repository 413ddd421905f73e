import type { Redis } from "ioredis";
import type { Timer } from "../runtime.ts";
import type { ConnectionOptions } from "./connection.ts";

/** Reconnect after this many command time-outs without a byte. */
const SILENT_COMMANDS_MAX = 4;
/** How often a connection is looked at, in parts of the silence that it may keep. */
const LOOKS = 4;
/** A look that comes later than this is a sign that this process was busy, or did not run. */
const LATE_MS = 20;

/**
 * Tears a connection down on which nothing has come for too long though something is awaited: one that a firewall
 * forgot stays open for ever. A new one follows.
 *
 * Time in which this process did not get to what had come is not held against the server, as it would be by
 * ioredis's own `socketTimeout`: a timer is due before the socket is read.
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
