// @ts-check
/// <reference lib="dom" />
/**
 * The stream of samples, which is reopened when it is lost.
 *
 * @module
 */
import { AccessError, request } from "./service.js";

const RETRY_MS = 1_000;
const RETRY_MS_MAX = 10_000;
/** A stream that is silent for this long counts as lost, even if the connection is open. */
const SILENCE_MS_MAX = 5_000;

/**
 * @typedef {object} Listener
 * @property {(sample: any) => void} onSample
 * @property {(state: "live" | "lost", reason: string) => void} onState Reason: the service's message.
 * @property {(error: AccessError) => Promise<void>} onAccess Resolves when another attempt is worthwhile.
 */

/**
 * Follows the samples as long as the page is open.
 *
 * @param {Listener} listener
 */
export async function follow(listener) {
  for (let failures = 0;;) {
    let reason = "";
    try {
      await readStream((sample) => {
        if (failures >= 0) listener.onState("live", "");
        failures = -1; // none since the last sample
        listener.onSample(sample);
      });
    } catch (error) {
      if (error instanceof AccessError) {
        await listener.onAccess(error);
        continue;
      }
      if (error instanceof Error && error.name === "ServiceError") reason = error.message;
    }
    listener.onState("lost", reason);
    failures = Math.max(0, failures) + 1;
    await new Promise((resolve) =>
      setTimeout(resolve, Math.min(RETRY_MS * 2 ** (failures - 1), RETRY_MS_MAX))
    );
  }
}

/**
 * Reads events until the stream ends.
 *
 * @param {(sample: unknown) => void} onSample
 */
async function readStream(onSample) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS_MAX);
  try {
    const { body } = await request("cache/live", { signal: silence.signal });
    const reader = body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let part = await reader?.read(); part !== undefined && !part.done;) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS_MAX);
      const events = (text + part.value).split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) onSample(JSON.parse(event.replace(/^data: /, "")));
      part = await reader?.read();
    }
  } finally {
    clearTimeout(timer);
  }
}
