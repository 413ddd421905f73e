import { setTimeout as delay } from "node:timers/promises";

/** Answers true if something happens within so many milliseconds. */
export async function inTime(happening: Promise<unknown>, patienceMs: number): Promise<boolean> {
  const over = new AbortController();
  const late = delay(patienceMs, false, { signal: over.signal });
  late.catch(() => undefined); // ended if it has lost
  try {
    return await Promise.race([happening.then(() => true), late]);
  } finally {
    over.abort();
  }
}
