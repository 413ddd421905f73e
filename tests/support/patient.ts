import type { CacheOptions } from "../../cache/mod.ts";

/** Bounds on silence that a busy machine does not reach by itself. */
export const PATIENT: Required<Pick<CacheOptions, "commandTimeoutMs" | "memoryLeaseMs">> = {
  commandTimeoutMs: 2_000,
  memoryLeaseMs: 3_000,
};
